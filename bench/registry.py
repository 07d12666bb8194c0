"""Names to objects: the folders' listings are the registries, and a plugin is imported only when it is named."""

from __future__ import annotations

import ast
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
    "engine": ("engines.backends", "BACKEND"),
    "dataset": ("datasets.sets", "DATASET"),
    "labeler": ("datasets.labelers", "LABELER"),
    "task": ("probes.tasks", "TASK"),
}
"""Kind of plugin -> (package whose files are the plugins, the name under which each gives itself)."""


def plugins(kind: str) -> dict[str, str]:
    """Name -> first line of the docstring of every plugin of a kind, read from the files without importing them."""
    package, _ = KINDS[kind]
    folder = ROOT.joinpath(*package.split("."))
    files = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    files |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    return {name: _summary(path) for name, path in sorted(files.items())}


def _summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def plugin(kind: str, name: str) -> Any:
    """The plugin of that name. Raises UserError, with the nearest known name, if there is none."""
    known = list(plugins(kind))
    if name not in known:
        raise UserError(f"there is no {kind} {name!r}{nearest(name, known)}")
    package, attribute = KINDS[kind]
    return getattr(import_module(f"{package}.{name}"), attribute)


def usable_engine(name: str) -> Backend:
    """The engine of that name. Raises UserError when there is none, or when it cannot be used here."""
    backend: Backend = plugin("engine", name)
    reason = backend.unavailable()
    if reason:
        raise UserError(f"engine {name} cannot be used here: {reason}")
    return backend
