"""A run that is killed in every stage, with baselines."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from bench.config import BASELINES, Config
from bench.run import run
from bench.runs.results import read_results
from datasets.splits import FOLDS
from tests.bench.test_compared_run import OPTIONS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_every_stage_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    uninterrupted = Config(**OPTIONS, baselines=BASELINES, out=str(tmp_path / "uninterrupted"))
    compared = read_results(run(uninterrupted).path)
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        "--out",
        str(folder),
        "--baselines",
        "all",
    ]
    for name, value in OPTIONS.items():
        typed = ",".join(value) if isinstance(value, tuple) else str(value)
        command += [f"--{name.replace('_', '-')}", typed]
    # With the last, a part of the test images is generated.
    for shards in (1, FOLDS - 1, FOLDS + 1, FOLDS + 20):
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and len(list(folder.rglob("*.safetensors"))) < shards:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (folder / "run.json").exists()
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    again = read_results(folder)
    for name, task in compared.tasks.items():
        assert again.tasks[name].cells == task.cells
        assert np.array_equal(task.scores, again.tasks[name].scores, equal_nan=True)
    probes, others = (
        load_file(results.path / "probes.safetensors") for results in (compared, again)
    )
    assert probes.keys() == others.keys()
    assert all(np.array_equal(values, others[key]) for key, values in probes.items())
