"""A few faults of every kind, with the program that tries all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_few_faults_of_every_kind_end_as_promised() -> None:
    options = ["--kills", "3", "--inputs", "48", "--seed", "1"]
    command = [sys.executable, "-m", "tests.faults", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "not as promised" not in done.stdout
    assert "total" in done.stdout
