"""Significance of synthetic changes: reruns with noise, clock readings, single figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bench.profiling.timing_intervals import ratio_of_groups
from bench.regression.changes import Change, Tolerance, tolerances
from bench.regression.scores import quality_changes
from bench.regression.speed import _latency, call_groups
from bench.runs.results import Results


def noisy(results: Results, rng: np.random.Generator) -> Results:
    """The run with independent noise in every image of every cell."""
    tasks = {
        name: replace(task, scores=task.scores + rng.normal(0, 0.05, task.scores.shape))
        for name, task in results.tasks.items()
    }
    return replace(results, tasks=tasks)


def test_twenty_reruns_are_not_called_more_often_than_the_rate_allows(small_run: Results) -> None:
    rng = np.random.default_rng(1)
    reruns = [noisy(small_run, rng) for _ in range(21)]
    # Without a change, a rerun with any significant cell is an error, at a rate of at most 5 %.
    # Without a fixed seed, 4 or more of 20 would occur by chance in 1.6 % of test runs.
    wrong = sum(
        any(change.moved(None) for change in quality_changes(base, new, []))
        for base, new in pairwise(reruns)
    )
    assert wrong <= 3


def test_twenty_reruns_are_not_called_slower() -> None:
    rng = np.random.default_rng(2)
    sessions = [[rng.gamma(50, 0.02, 9) for _ in range(9)] for _ in range(21)]
    wrong = sum(ratio_of_groups(new, base)[3] <= 0.05 for base, new in pairwise(sessions))
    assert wrong <= 3
    slower = [group * 1.2 for group in sessions[0]]
    value, low, high, p = ratio_of_groups(slower, sessions[1])
    assert low <= value <= high
    assert low <= 1.2 <= high
    assert p <= 0.001


def test_neighbours_that_were_disturbed_together_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    alone = [rng.normal(1, 0.1, 40) for _ in range(10)]
    together = [np.full(40, rng.normal(1, 0.1)) for _ in range(10)]
    _, low, high, _ = ratio_of_groups(alone, alone)
    _, wide_low, wide_high, _ = ratio_of_groups(together, together)
    assert wide_high - wide_low > 1.5 * (high - low)


def calls_of(rng: np.random.Generator, blocks: int, steps: int, spread: float) -> np.ndarray:
    """Calls of a run whose machine was slower in some blocks than in others."""
    slowness = np.exp(rng.normal(0, spread, blocks))
    rows = [
        [step, 0, 8, slowness[block] * rng.gamma(2500), 0]
        for block in range(blocks)
        for step in range(steps)
    ]
    return np.array(rows)


def test_blocks_that_were_disturbed_as_a_whole_are_no_change() -> None:
    rng = np.random.default_rng(5)
    trials, wrong = 100, 0
    for _ in range(trials):
        where, before, after = call_groups(calls_of(rng, 12, 6, 0.05), calls_of(rng, 12, 6, 0.05))[
            0
        ]
        assert where == "trained"
        wrong += ratio_of_groups(after, before, draws=199)[3] <= 0.05
    # At a true rate of 5 %, more than 12 of 100 occur by chance once in 700 times.
    assert wrong <= 12


def test_calls_are_grouped_with_their_neighbours_in_time() -> None:
    calls = np.array(
        [
            [step, network, 2, 10.0 * block + step, 0]
            for block in range(4)
            for step in range(4)
            for network in (0, 1)
        ]
    )
    (_, groups, _), *steps = call_groups(calls, calls)
    assert [group.tolist() for group in groups] == [
        [(10 * block + step) / 2 for step in range(4)] for block in range(4)
    ]
    assert [where for where, _, _ in steps] == [f"trained step {step}" for step in (1, 2, 3, 4)]
    assert np.concatenate(steps[1][1]).tolist() == [0.5, 5.5, 10.5, 15.5]


def test_a_single_reading_moves_beyond_its_tolerance_only() -> None:
    change = Change("memory", "peak", 100.0, 103.0, 3.0, "", np.nan, is_single=True)
    assert not change.moved(None)
    assert not change.moved(Tolerance(0.05, True))
    assert change.moved(Tolerance(0.01, True))
    assert change.is_regression(Tolerance(0.01, True))
    less = replace(change, new=97.0, loss=-3.0)
    assert less.moved(Tolerance(0.01, True))
    assert not less.is_regression(Tolerance(0.01, True))


def test_a_slowdown_counts_when_all_of_its_interval_is_beyond_the_tolerance() -> None:
    rng = np.random.default_rng(3)
    base = [rng.gamma(2500, 1 / 2500, 20) for _ in range(12)]
    for factor, is_regression in ((1.03, False), (1.12, True)):
        drifting = [group * factor * rng.normal(1, 0.02) for group in base]
        change = replace(_latency("trained", base, drifting), q=0.0)
        assert change.loss > 0
        assert change.moved(Tolerance(0.05, True))
        assert change.is_regression(Tolerance(0.05, True)) is is_regression
    # The mean alone is beyond the tolerance.
    near = replace(change, loss=0.06, sure_loss=0.04, base=1.0)
    assert near.moved(Tolerance(0.05, True))
    assert not near.is_regression(Tolerance(0.05, True))


def test_tolerances_are_sizes_or_shares() -> None:
    parsed = tolerances("dice:0.01, latency:5%,rmse:2%", ["dice", "rmse", "latency", "memory"])
    assert parsed == {
        "dice": Tolerance(0.01, False),
        "latency": Tolerance(0.05, True),
        "rmse": Tolerance(0.02, True),
    }
    assert parsed["rmse"].of(-0.5) == pytest.approx(0.01)
