"""Plugins: what a plugin file must be, and how it is found."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from bench.registry import KINDS, definition_of, plugins
from tests.imports import HEAVY, ROOT, imported_on_import, parsed, python


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


def test_the_listing_finds_the_plugins_on_disk() -> None:
    folders = {
        "engines/backends",
        "engines/families",
        "engines/models",
        "datasets/sets",
        "datasets/labelers",
        "probes/tasks",
        "bench/claims",
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
def test_a_plugin_defines_its_object_under_the_name_of_its_kind(plugin: Plugin) -> None:
    from bench.verdicts.claim import Claim
    from datasets.items import Dataset
    from datasets.labeler import Labeler
    from engines.engine import Backend, ModelSpec
    from engines.family import Family
    from probes.task import Task

    kinds = {
        "model": ModelSpec,
        "family": Family,
        "engine": Backend,
        "dataset": Dataset,
        "labeler": Labeler,
        "task": Task,
        "claim": Claim,
    }
    assert kinds.keys() == KINDS.keys()
    assert isinstance(
        getattr(import_module(plugin.module), KINDS[plugin.kind][1]), kinds[plugin.kind]
    )


def test_importing_all_plugins_but_tasks_loads_nothing_heavy() -> None:
    modules = [plugin.module for plugin in PLUGINS if plugin.kind != "task"]
    code = f"import sys, {', '.join(modules)}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    assert python(ROOT, "-c", code).stdout.split() == []


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


def test_the_code_of_a_plugin_counts_and_its_comments_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.registry.ROOT", tmp_path)
    folder = tmp_path / "probes" / "tasks"
    folder.mkdir(parents=True)
    first = '"""One."""\n\n\ndef f(x):\n    """Two."""\n    return x + 1\n\n\nTASK = f\n'

    def hashed(text: str) -> str:
        (folder / "own.py").write_text(text, encoding="utf-8")
        return definition_of("task", "own")

    same = first.replace("Two.", "Three.").replace("return", "# Four.\n    return")
    assert hashed(same) == hashed(first) != hashed(first.replace("+ 1", "+ 2"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('"""Broken."""\n', "the task broken defines no TASK; add it to probes/tasks/broken.py"),
        ('"""Broken."""\n\nTASK = (\n', "the task broken cannot be read"),
    ],
)
def test_a_faulty_plugin_is_named(tree: Path, content: str, said: str) -> None:
    (tree / "probes" / "tasks" / "broken.py").write_text(content, encoding="utf-8")
    listing = python(tree, "-m", "bench", "list", path=str(tree))
    assert listing.returncode == 0, listing.stderr
    code = "from bench.registry import plugin; plugin('task', 'broken')"
    used = python(tree, "-c", code, path=str(tree))
    assert f"bench.errors.UserError: {said}" in used.stderr


@pytest.mark.parametrize("command", [["list"], ["--help"], ["run", "--help"]])
def test_light_commands_take_under_a_second_and_load_nothing_heavy(command: list[str]) -> None:
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
    assert not loaded & (HEAVY | {"numpy"})
    assert usage.ru_utime + usage.ru_stime < 1.0


def test_the_list_names_every_plugin_with_its_summary() -> None:
    listing = python(ROOT, "-m", "bench", "list").stdout
    for plugin in PLUGINS:
        summary = re.escape(ast.get_docstring(parsed(plugin.path)) or "")
        assert re.search(rf"^ *{plugin.name} +{summary}$", listing, re.MULTILINE)


def test_the_list_names_every_sampler() -> None:
    samplers = python(ROOT, "-m", "bench", "list").stdout.partition("\nsamplers\n")[2]
    named = [line.split()[0] for line in samplers.splitlines()]
    assert named == ["lms", "euler", "ddim", "dpm", "unipc", "flow-euler", "model"]
