"""Peak memory does not grow with the number of items: runs in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FEW, ALL = (
    int(number) for number in os.environ.get("SCENEBENCH_MEMORY_ITEMS", "104,617").split(",")
)
"""Items of the two runs: the fewest of which every fold fills a block, and the paper's. Fewer than
these test only the test itself, as blocks that are not full take less memory."""
OPTIONS = os.environ.get("SCENEBENCH_MEMORY_OPTIONS", "").split()
"""Further options of every run, such as fewer layers and steps."""
MOST = 1.05
"""The larger run's peak over the smaller one's."""


def peak_of_run(folder: Path, items: int) -> int:
    command = [sys.executable, "-m", "bench", "run", "--limit", str(items), "--out", str(folder)]
    done = subprocess.run(
        [*command, *OPTIONS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert len(facts["train_items"]) + len(facts["test_items"]) == items
    return int(facts["peak_bytes"])


@pytest.mark.slow
def test_six_times_the_items_take_no_more_memory(tmp_path: Path) -> None:
    # A first run exports the network, so that neither of the two does.
    peak_of_run(tmp_path / "export", 24)
    few, many = peak_of_run(tmp_path / "few", FEW), peak_of_run(tmp_path / "all", ALL)
    assert many <= MOST * few, (
        f"{few / 2**20:.0f} MiB for {FEW} items, {many / 2**20:.0f} MiB for {ALL}"
    )


def python(code: str) -> list[int]:
    """Run code in a separate process, and return the numbers that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_the_peak_stays_when_memory_is_freed() -> None:
    before, grown, after = python(
        "from bench.measure import peak_bytes\n"
        "print(peak_bytes())\n"
        "block = b'x' * (256 << 20)\n"
        "print(peak_bytes())\n"
        "del block\n"
        "print(peak_bytes())\n"
    )
    assert grown - before == pytest.approx(256 << 20, rel=0.05)
    # The system adds pages up in batches of a few hundred kilobytes.
    assert after == pytest.approx(grown, abs=2 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux do children inherit the peak")
def test_the_memory_of_what_started_it_is_not_in_the_peak() -> None:
    child = "from bench.measure import peak_bytes; print(peak_bytes())"
    (peak,) = python(
        "import subprocess, sys\n"
        "block = b'x' * (1 << 30)\n"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)\n"
        "assert len(block) == 1 << 30\n"
    )
    assert 50 << 20 < peak < 900 << 20
