"""The workflows parse, their commands exist, and each job installs what its machine can run."""

from __future__ import annotations

import re
import runpy
import shlex
import stat
import tomllib
from pathlib import Path

import pytest
import yaml

from bench.__main__ import _parser
from bench.registry import plugin

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CPU, GPU = (ROOT / ".github" / "workflows" / f"{name}.yml" for name in ("cpu", "gpu"))


def steps(path: Path) -> list[dict[str, str]]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def commands(path: Path) -> list[str]:
    return [step["run"] for step in steps(path) if "run" in step]


def bench_commands(path: Path, command: str) -> list[list[str]]:
    """Words after ``-m bench COMMAND`` of every such step."""
    lines = [line.partition(" -m bench ")[2] for line in commands(path) if " -m bench " in line]
    return [words[1:] for words in map(shlex.split, lines) if words[0] == command]


def installed(line: str) -> set[str]:
    """Requirements that the extras of a ``pip install`` line add, without their versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.search(r"\.\[([\w,]+)\]", line)[1].split(",")
    lists = [project["optional-dependencies"][extra] for extra in extras]
    return {re.split(r"[<>=~!\[]", entry)[0] for entries in lists for entry in entries}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_complete(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    # YAML 1.1 reads the key "on" as true.
    assert {"name", True, "jobs"} <= set(workflow)
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["runs-on"] for job in workflow["jobs"].values())
    for step in steps(path):
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v4"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_of_a_workflow_exists(path: Path) -> None:
    parsed = 0
    for line in commands(path):
        if line.startswith("."):
            program = line.split()[0]
            is_installed = re.match(r"(\.\./)?\.venv/bin/", program)
            assert is_installed or (ROOT / program).stat().st_mode & stat.S_IXUSR
        if " -m bench " in line:
            # An option that does not exist would end the process.
            assert _parser().parse_args(shlex.split(line.partition(" -m bench ")[2])).command
            parsed += 1
    assert parsed


def test_the_cpu_job_runs_the_checks() -> None:
    assert ".ci/run" in commands(CPU)


def test_only_the_cpu_job_installs_tensorrt_for_rtx() -> None:
    """TensorRT for RTX does not support compute capability 9.0, that of an H100."""
    (install,) = [line for line in commands(GPU) if "pip install" in line]
    assert {"onnxruntime-gpu", "pytest"} <= installed(install)
    assert not {name for name in installed(install) if name.startswith("tensorrt")}
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (install,) = [line for line in checks.splitlines() if "pip install" in line]
    assert installed(install) == {"tensorrt-rtx"}


def test_the_gpu_job_runs_the_engine_contract() -> None:
    assert ".venv/bin/python -m pytest -m gpu" in commands(GPU)
    contract = runpy.run_path(str(ROOT / "tests" / "engines" / "test_backend_contract.py"))
    for engine in contract["ENGINES"]:
        (name,) = engine.values
        on_gpu = plugin("engine", name).device == "cuda"
        assert ("gpu" in [mark.name for mark in engine.marks]) == on_gpu


@pytest.mark.parametrize(
    ("command", "folders", "figures"),
    [
        ("run", ["run-base", "run-new"], {"dice", "rmse"}),
        ("profile", ["profile-base", "profile-new"], {"latency", "memory"}),
    ],
)
def test_the_gpu_job_compares_quality_and_speed_with_the_base_branch(
    command: str, folders: list[str], figures: set[str]
) -> None:
    base, new = bench_commands(GPU, command)
    assert [Path(words[-1]).name for words in (base, new)] == folders
    assert base[:-1] == new[:-1]
    (base_step,) = [step for step in steps(GPU) if f"../{folders[0]}" in step.get("run", "")]
    assert base_step["working-directory"] == "base"
    (tolerances,) = [words[3] for words in bench_commands(GPU, "compare") if words[:2] == folders]
    assert {entry.partition(":")[0] for entry in tolerances.split(",")} == figures
