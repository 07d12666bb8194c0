"""Time and memory of runs that are the work of several processes."""

from __future__ import annotations

import time

import pytest
import torch

from bench.report.tables import cost_line
from bench.runs.checkpoints import MADE, Session
from bench.runs.results import Results


def test_the_work_of_other_processes_is_added_once() -> None:
    mine = Session(started=time.perf_counter() - 100)
    others = [
        {MADE: torch.tensor([identity, seconds, peak], dtype=torch.float64)}
        for identity, seconds, peak in ((7, 10.0, 1e15), (7, 20.0, 2e15), (8, 5.0, 1.0))
    ]
    taken = mine.taken([*others, mine.stamp(60.0), mine.stamp(30.0)])
    assert taken.seconds == pytest.approx(135, abs=1)
    assert taken.peak_bytes == 2e15
    assert taken.processes == 3


def test_one_process_is_its_own_clock() -> None:
    mine = Session()
    taken = mine.taken([mine.stamp(1e6)])
    assert taken.seconds < 1e3
    assert taken.processes == 1
    assert taken.peak_bytes > 1e6


def test_the_cost_says_threads_and_processes(small_run: Results) -> None:
    assert small_run.facts["processes"] == 1
    assert " on 1 thread with onnxruntime" in cost_line(small_run)
    assert "added up" not in cost_line(small_run)
    small_run.facts.update(processes=3, world=2, threads=4)
    try:
        said = cost_line(small_run)
    finally:
        small_run.facts.update(processes=1, world=1, threads=1)
    assert "min (added up over 3 processes) on 2 ranks of 4 threads each with" in said
