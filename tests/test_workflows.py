"""The workflows parse, and every command that they call exists."""

from __future__ import annotations

import re
import shlex
import stat
from pathlib import Path

import pytest
import yaml

from bench.__main__ import _parser

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def runs(path: Path) -> list[str]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_complete(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    # YAML 1.1 reads the key "on" as true.
    assert {"name", True, "jobs"} <= set(workflow)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v4"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_of_a_workflow_exists(path: Path) -> None:
    commands = 0
    for line in runs(path):
        if line.startswith("."):
            program = line.split()[0]
            is_installed = re.match(r"(\.\./)?\.venv/bin/", program)
            assert is_installed or (ROOT / program).stat().st_mode & stat.S_IXUSR
        if " -m bench " in line:
            # An option that does not exist would end the process.
            assert _parser().parse_args(shlex.split(line.partition(" -m bench ")[2])).command
            commands += 1
        if " -m pytest " in line:
            mark = re.search(r"-m pytest -m (\w+)", line).group(1)
            assert f'"{mark}:' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert commands


def test_both_machines_have_one() -> None:
    assert {path.stem for path in WORKFLOWS} == {"cpu", "gpu"}
    assert ".ci/run" in runs(ROOT / ".github" / "workflows" / "cpu.yml")
