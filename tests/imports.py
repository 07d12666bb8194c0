"""Imports of the packages, read from their source without importing them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "extract", "probes", "engines", "datasets")
HEAVY = {
    "torch",
    "diffusers",
    "transformers",
    "onnxruntime",
    "onnx",
    "sklearn",
    "scipy",
    "openvino",
    "tensorrt",
}
"""Packages that ``bench list`` and ``--help`` must not import."""


def sources(folder: Path = ROOT) -> list[Path]:
    """All source files of the packages."""
    return sorted(path for package in PACKAGES for path in (folder / package).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """The absolute module names in all import statements."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield node.module or ""
            # A name imported from a package may be a module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_on_import(node: ast.AST) -> Iterator[str]:
    """The names imported at run time by the top level, without functions and type checking."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from imported(child)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from (name for other in child.orelse for name in imported(other))
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported_on_import(child)


def python(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python in ``folder`` with the packages in ``path``."""
    environment = {**os.environ, "PYTHONPATH": path or str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
