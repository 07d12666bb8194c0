"""Find plugins by name: a folder is a registry, and a plugin is imported only when named."""

from __future__ import annotations

import ast
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import nearest
from bench.errors import UserError

if TYPE_CHECKING:
    from engines.engine import Backend

ROOT = Path(__file__).parent.parent

KINDS: dict[str, tuple[str, str]] = {
    "model": ("engines.models", "MODEL"),
    "family": ("engines.families", "FAMILY"),
    "engine": ("engines.backends", "BACKEND"),
    "dataset": ("datasets.sets", "DATASET"),
    "labeler": ("datasets.labelers", "LABELER"),
    "task": ("probes.tasks", "TASK"),
    "claim": ("bench.claims", "CLAIM"),
}
"""Kind of plugin -> (package of its files, name of the object that each file defines)."""


def plugins(kind: str) -> dict[str, str]:
    """Map the names of a kind of plugins to their first docstring lines, without importing."""
    package, _ = KINDS[kind]
    folder = ROOT.joinpath(*package.split("."))
    files = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    files |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    return {name: _summary(path) for name, path in sorted(files.items())}


def _summary(path: Path) -> str:
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        return f"cannot be read: line {error.lineno}: {error.msg}"
    return text.partition("\n")[0]


def plugin(kind: str, name: str) -> Any:
    """Return the plugin of that name. Raises UserError, with the nearest name, if there is none."""
    names = list(plugins(kind))
    if name not in names:
        raise UserError(f"there is no {kind} {name!r}{nearest(name, names)}")
    package, attribute = KINDS[kind]
    try:
        return getattr(import_module(f"{package}.{name}"), attribute)
    except SyntaxError as error:
        raise UserError(
            f"the {kind} {name} cannot be read: {error.filename}, line {error.lineno}: {error.msg}"
        ) from error
    except AttributeError as error:
        if hasattr(import_module(f"{package}.{name}"), attribute):
            raise
        raise UserError(
            f"the {kind} {name} defines no {attribute}; add it to {package.replace('.', '/')}/"
            f"{name}.py, as in the others there"
        ) from error


def definition_of(kind: str, name: str) -> str:
    """Return a hash of the code of a plugin's own files; comments and docstrings do not count."""
    folder = ROOT.joinpath(*KINDS[kind][0].split("."))
    files = sorted((folder / name).rglob("*.py")) or [folder / f"{name}.py"]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                # Expressions that stand alone are strings: they compute nothing.
                node.body = [line for line in node.body if not _is_text(line)]
    code = "\n".join(ast.unparse(tree) for tree in trees)
    return sha256(code.encode()).hexdigest()[:20]


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


def usable_engine(name: str) -> Backend:
    """Return the engine of that name. Raises UserError if there is none or it is unusable here."""
    backend: Backend = plugin("engine", name)
    reason = backend.unavailable()
    if reason:
        raise UserError(f"engine {name} cannot be used here: {reason}")
    return backend
