"""The layout of the packages and the shape of plugin files, found without importing them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

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
ROOMS = {
    "errors": set(),
    "measure": set(),
    "steps": set(),
    "validation": {"errors"},
    "config": {"errors", "steps", "validation"},
    "figures": {"errors"},
    "environment": {"config", "validation"},
    "registry": {"config", "errors"},
    "labeling": {"config", "errors", "registry"},
    "study": {"config", "environment", "errors", "labeling", "registry"},
    "networks": {"errors", "study"},
    "runs": {
        "config",
        "environment",
        "errors",
        "figures",
        "measure",
        "steps",
        "study",
        "validation",
    },
    "stages": {"measure", "runs", "study"},
    "run": {"config", "measure", "networks", "runs", "stages", "study"},
    "analysis": {"errors", "runs", "steps"},
    "calibration": {"errors", "networks", "runs", "study"},
    "curation": {"config", "environment", "errors", "figures", "labeling", "registry", "study"},
    "profiling": {
        "config",
        "environment",
        "errors",
        "labeling",
        "measure",
        "networks",
        "registry",
        "runs",
        "steps",
        "study",
    },
    "planning": {"config", "errors", "measure", "networks", "profiling", "runs", "stages", "study"},
    "regression": {"config", "errors", "profiling", "runs"},
    "adam_vs_ridge": {"errors", "measure", "networks", "profiling", "runs", "steps", "study"},
    "interventions": {"analysis", "config", "errors", "figures", "registry", "runs", "study"},
    "report": {
        "adam_vs_ridge",
        "analysis",
        "config",
        "errors",
        "figures",
        "interventions",
        "registry",
        "runs",
        "steps",
    },
    "commands": {
        "adam_vs_ridge",
        "calibration",
        "config",
        "curation",
        "environment",
        "errors",
        "interventions",
        "labeling",
        "planning",
        "profiling",
        "registry",
        "regression",
        "report",
        "run",
        "runs",
        "steps",
        "study",
    },
    "__main__": {"commands", "environment", "errors"},
}
"""The rooms of ``bench``, a module or a folder each, from the ground up: which others each one imports."""
MOST_AT_THE_TOP = 16
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
            # What is taken from a package may be a module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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
            assert ours <= ARROW[package], (
                f"{path.relative_to(ROOT)} imports {sorted(ours - ARROW[package])}"
            )


def rooms_in(folder: Path) -> dict[str, set[str]]:
    """Room -> the other rooms that it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted((folder / "bench").rglob("*.py")):
        room = path.relative_to(folder / "bench").parts[0].removesuffix(".py")
        names = {name.split(".")[1] for name in imported(parsed(path)) if name.startswith("bench.")}
        found[room] = found.get(room, set()) | (names - {room})
    return {room: others for room, others in found.items() if room != "__init__"}


def test_every_room_imports_what_the_table_says() -> None:
    assert rooms_in(ROOT) == ROOMS


def test_no_room_imports_one_above_it() -> None:
    floors = list(ROOMS)
    for floor, room in enumerate(floors):
        assert ROOMS[room] <= set(floors[:floor]), (
            f"{room} imports {sorted(ROOMS[room] - set(floors[:floor]))}"
        )


def test_an_import_of_a_room_above_is_noticed(tree: Path) -> None:
    assert rooms_in(tree) == ROOMS
    with (tree / "bench" / "runs" / "folder.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef late() -> None:\n    import bench.report.html\n")
    assert rooms_in(tree)["runs"] - ROOMS["runs"] == {"report"}


def circle_in(folder: Path) -> list[str]:
    """Modules that can be had only after each other; none where there is an order."""
    paths = {
        ".".join(path.relative_to(folder).with_suffix("").parts): path for path in sources(folder)
    }
    needs = {name: set(imported(parsed(path))) & paths.keys() for name, path in paths.items()}
    while free := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in free:
            del needs[name]
    return sorted(needs)


def test_modules_are_in_no_circle(tree: Path) -> None:
    assert circle_in(ROOT) == []
    with (tree / "engines" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef late() -> None:\n    from engines.load import load\n")
    assert {"engines.errors", "engines.load"} <= set(circle_in(tree))


def test_the_top_of_bench_is_read_at_a_glance() -> None:
    assert len(list((ROOT / "bench").glob("*.py"))) <= MOST_AT_THE_TOP


def test_every_package_is_seen() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in sources()} == set(PACKAGES)
    assert len(sources()) > 60


def test_no_file_is_too_long() -> None:
    for path in (*sources(), *(ROOT / "tests").rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST, f"{path.relative_to(ROOT)} has {lines} lines"


def test_the_listing_finds_the_plugins_on_disk() -> None:
    folders = {
        "engines/backends",
        "engines/models",
        "datasets/sets",
        "datasets/labelers",
        "probes/tasks",
    }
    assert {package.replace(".", "/") for package, _ in KINDS.values()} == folders
    on_disk = {
        entry
        for folder in folders
        for entry in (ROOT / folder).iterdir()
        if (entry.suffix == ".py" and entry.stem != "__init__") or (entry / "__init__.py").is_file()
    }
    assert {
        plugin.path.parent if plugin.path.stem == "__init__" else plugin.path for plugin in PLUGINS
    } == on_disk


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

    kinds = {
        "model": ModelSpec,
        "engine": Backend,
        "dataset": Dataset,
        "labeler": Labeler,
        "task": Task,
    }
    assert kinds.keys() == KINDS.keys()
    assert isinstance(
        getattr(import_module(plugin.module), KINDS[plugin.kind][1]), kinds[plugin.kind]
    )


def test_importing_all_plugins_but_tasks_loads_nothing_heavy() -> None:
    modules = [plugin.module for plugin in PLUGINS if plugin.kind != "task"]
    code = f"import sys, {', '.join(modules)}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    assert python(ROOT, "-c", code).stdout.split() == []


def python(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path or str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages without weights."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("weights", "__pycache__"),
        )
    return tmp_path


def test_a_file_dropped_into_a_folder_is_a_plugin(tree: Path) -> None:
    for kind, (package, name) in KINDS.items():
        file = tree.joinpath(*package.split("."), f"fresh_{kind}.py")
        file.write_text(f'"""A new {kind} for all to use."""\n\n{name} = None\n', encoding="utf-8")
    listing = python(tree, "-m", "bench", "list", path=str(tree))
    assert listing.returncode == 0, listing.stderr
    for kind in KINDS:
        assert re.search(
            rf"^ *fresh_{kind} +A new {kind} for all to use\.$", listing.stdout, re.MULTILINE
        )


def test_a_broken_plugin_does_not_hide_the_others(tree: Path) -> None:
    (tree / "probes" / "tasks" / "broken.py").write_text(
        '"""Broken."""\n\nraise RuntimeError\n', encoding="utf-8"
    )
    listing = python(tree, "-m", "bench", "list", path=str(tree))
    assert listing.returncode == 0, listing.stderr
    assert "depth" in listing.stdout


@pytest.mark.parametrize("command", [["list"], ["--help"], ["run", "--help"]])
def test_light_commands_take_under_half_a_second_and_load_nothing_heavy(command: list[str]) -> None:
    arguments = [sys.executable, "-X", "importtime", "-m", "bench", *command]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        times = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in times.splitlines()}
    assert "bench" in loaded
    assert not loaded & (HEAVY | {"numpy", "pydantic"})
    assert usage.ru_utime + usage.ru_stime < 0.5


def test_the_list_names_every_plugin_with_its_summary() -> None:
    listing = python(ROOT, "-m", "bench", "list").stdout
    for plugin in PLUGINS:
        summary = re.escape(ast.get_docstring(parsed(plugin.path)) or "")
        assert re.search(rf"^ *{plugin.name} +{summary}$", listing, re.MULTILINE)
