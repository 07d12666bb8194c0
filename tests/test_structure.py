"""How the packages lie to one another, and what a plugin file must be; nothing of ours is imported to find out."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bench.registry import KINDS, plugins

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "extract", "probes", "engines", "datasets")
ARROW = {
    "bench": {"bench", "extract", "probes", "engines", "datasets"},
    "extract": {"extract", "engines", "datasets"},
    "probes": {"probes", "datasets"},
    "engines": {"engines"},
    "datasets": {"datasets"},
}
HEAVY = {"torch", "diffusers", "transformers", "onnxruntime", "onnx", "sklearn", "scipy", "openvino", "tensorrt"}
LONGEST = 300


def sources(folder: Path = ROOT) -> list[Path]:
    return sorted(path for package in PACKAGES for path in (folder / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every absolute module name that any import statement names, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield node.module or ""


def imported_on_import(node: ast.AST) -> Iterator[str]:
    """The module names that are imported when the module is: not in functions, not for the type checker."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from imported(child)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from (name for other in child.orelse for name in imported(other))
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported_on_import(child)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Plugin:
    kind: str
    name: str

    @property
    def module(self) -> str:
        return f"{KINDS[self.kind][0]}.{self.name}"

    @property
    def path(self) -> Path:
        stem = ROOT.joinpath(*self.module.split("."))
        return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


PLUGINS = [Plugin(kind, name) for kind in KINDS for name in plugins(kind)]
every_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.module)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrow(package: str) -> None:
    for path in sources():
        if path.relative_to(ROOT).parts[0] == package:
            ours = {name.partition(".")[0] for name in imported(parsed(path))} & set(PACKAGES)
            assert ours <= ARROW[package], f"{path.relative_to(ROOT)} imports {sorted(ours - ARROW[package])}"


def test_every_package_is_seen() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in sources()} == set(PACKAGES)
    assert len(sources()) > 60


def test_no_file_is_too_long() -> None:
    for path in (*sources(), *(ROOT / "tests").rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST, f"{path.relative_to(ROOT)} has {lines} lines"


def test_the_listing_finds_the_plugins_on_disk() -> None:
    folders = {"engines/backends", "engines/models", "datasets/sets", "datasets/labelers", "probes/tasks"}
    assert {package.replace(".", "/") for package, _ in KINDS.values()} == folders
    on_disk = {
        entry
        for folder in folders
        for entry in (ROOT / folder).iterdir()
        if (entry.suffix == ".py" and entry.stem != "__init__") or (entry / "__init__.py").is_file()
    }
    assert {plugin.path.parent if plugin.path.stem == "__init__" else plugin.path for plugin in PLUGINS} == on_disk


@every_plugin
def test_a_plugin_has_a_docstring_of_one_line(plugin: Plugin) -> None:
    summary = ast.get_docstring(parsed(plugin.path))
    assert summary
    assert "\n" not in summary
    assert summary[-1] in ".?"


@every_plugin
def test_a_plugin_imports_nothing_heavy_at_its_top(plugin: Plugin) -> None:
    roots = {name.partition(".")[0] for name in imported_on_import(parsed(plugin.path))}
    if plugin.kind != "task":
        assert not roots & (HEAVY | {"numpy"})


@every_plugin
def test_a_plugin_gives_its_object_under_the_name_of_its_kind(plugin: Plugin) -> None:
    from datasets.items import Dataset
    from datasets.labeler import Labeler
    from engines.engine import Backend, ModelSpec
    from probes.task import Task

    kinds = {"model": ModelSpec, "engine": Backend, "dataset": Dataset, "labeler": Labeler, "task": Task}
    assert kinds.keys() == KINDS.keys()
    assert isinstance(getattr(import_module(plugin.module), KINDS[plugin.kind][1]), kinds[plugin.kind])


def test_importing_all_plugins_but_tasks_loads_nothing_heavy() -> None:
    modules = [plugin.module for plugin in PLUGINS if plugin.kind != "task"]
    code = f"import sys, {', '.join(modules)}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    assert python(ROOT, "-c", code).stdout.split() == []


def python(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path or str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages without weights."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    return tmp_path


def test_a_file_dropped_into_a_folder_is_a_plugin(tree: Path) -> None:
    for kind, (package, name) in KINDS.items():
        file = tree.joinpath(*package.split("."), f"fresh_{kind}.py")
        file.write_text(f'"""A new {kind} for all to use."""\n\n{name} = None\n', encoding="utf-8")
    listing = python(tree, "-m", "bench", "list", path=str(tree))
    assert listing.returncode == 0, listing.stderr
    for kind in KINDS:
        assert re.search(rf"^ *fresh_{kind} +A new {kind} for all to use\.$", listing.stdout, re.MULTILINE)


def test_a_broken_plugin_does_not_hide_the_others(tree: Path) -> None:
    (tree / "probes" / "tasks" / "broken.py").write_text('"""Broken."""\n\nraise RuntimeError\n', encoding="utf-8")
    listing = python(tree, "-m", "bench", "list", path=str(tree))
    assert listing.returncode == 0, listing.stderr
    assert "depth" in listing.stdout


@pytest.mark.parametrize("command", [["list"], ["--help"], ["run", "--help"]])
def test_light_commands_take_under_a_second_and_load_nothing_heavy(command: list[str]) -> None:
    arguments = [sys.executable, "-X", "importtime", "-m", "bench", *command]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        times = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in times.splitlines()}
    assert "bench" in loaded
    assert not loaded & (HEAVY | {"numpy"})
    assert usage.ru_utime + usage.ru_stime < 1.0


def test_the_list_names_every_plugin_with_its_summary() -> None:
    listing = python(ROOT, "-m", "bench", "list").stdout
    for plugin in PLUGINS:
        summary = re.escape(ast.get_docstring(parsed(plugin.path)) or "")
        assert re.search(rf"^ *{plugin.name} +{summary}$", listing, re.MULTILINE)


def test_datasets_is_ours_beside_the_hugging_face_classes_in_use() -> None:
    used = {
        (node.module, alias.name)
        for path in sources()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("diffusers", "transformers")
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
        needed = waiting.pop()
        name = needed.name.lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        below = [Requirement(line) for line in lines]
        extras = needed.extras or {""}
        waiting += [r for r in below if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
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
    assert python(elsewhere, "-m", "bench", "list").returncode == 0
