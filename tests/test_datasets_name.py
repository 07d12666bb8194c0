"""The name ``datasets`` belongs to this project, not to the HuggingFace package of that name."""

from __future__ import annotations

import ast
import os
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

from tests.imports import PACKAGES, ROOT, python


def test_datasets_is_ours_beside_the_hugging_face_classes_in_use() -> None:
    used = {
        (node.module, alias.name)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").partition(".")[0] in ("diffusers", "transformers")
        for alias in node.names
    }
    assert len(used) >= 5
    for module, name in used:
        assert getattr(import_module(str(module)), name)
    assert Path(str(import_module("datasets").__file__)) == ROOT / "datasets" / "__init__.py"


def test_hugging_faces_datasets_is_no_dependency_direct_or_through_another() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    waiting = [Requirement(line) for lines in lists for line in lines]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        extras = requirement.extras or {""}
        for needed in map(Requirement, lines):
            marker = needed.marker
            if not marker or any(marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    assert "tokenizers" in seen
    assert "datasets" not in seen


def test_a_foreign_datasets_is_refused_in_one_sentence(tmp_path: Path) -> None:
    fake = tmp_path / "fake" / "datasets"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = f"{fake.parent}{os.pathsep}{ROOT}"
    refused = python(elsewhere, "-m", "bench", "list", path=path)
    assert refused.returncode == 2
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert str(fake) in line
    assert "HuggingFace" in line
    assert ". " not in line
    assert python(elsewhere, "-m", "bench", "list", path=str(ROOT)).returncode == 0
