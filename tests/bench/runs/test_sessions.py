"""Time and memory of runs that several processes worked on."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from bench.report.tables import cost_line
from bench.runs.checkpoints import Session
from bench.runs.results import Results
from bench.runs.shard_keys import MADE


def test_the_work_of_other_processes_is_added_once() -> None:
    session = Session(started=time.perf_counter() - 100)
    others = [
        {MADE: torch.tensor([identity, seconds, peak], dtype=torch.float64)}
        for identity, seconds, peak in ((7, 10.0, 1e15), (7, 20.0, 2e15), (8, 5.0, 1.0))
    ]
    cost = session.cost([*others, session.stamp(60.0), session.stamp(30.0)])
    assert cost.seconds == pytest.approx(135, abs=1)
    assert cost.peak_bytes == 2e15
    assert cost.processes == 3


def test_one_process_is_its_own_clock() -> None:
    session = Session()
    cost = session.cost([session.stamp(1e6)])
    assert cost.seconds < 1e3
    assert cost.processes == 1
    assert cost.peak_bytes > 1e6


def test_the_cost_says_threads_and_processes(small_run: Results) -> None:
    assert small_run.record.processes == 1
    assert " on 1 thread with onnxruntime" in cost_line(small_run)
    assert "added up" not in cost_line(small_run)
    record = small_run.record.model_copy(update={"processes": 3, "world": 2, "threads": 4})
    said = cost_line(replace(small_run, record=record))
    assert "min (added up over 3 processes) on 2 ranks of 4 threads each with" in said
