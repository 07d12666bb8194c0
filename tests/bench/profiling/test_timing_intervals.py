"""Intervals around readings, against enumeration and simulation."""

from __future__ import annotations

from math import comb, isnan

import numpy as np
import pytest

from bench.profiling.timing_intervals import quantile, ratio, total


@pytest.mark.parametrize(("n", "q"), [(30, 0.5), (75, 0.9), (200, 0.95), (60, 0.95), (10, 0.9)])
def test_rank_intervals_have_their_level_and_no_narrower_pair_of_ranks_has(
    n: int, q: float
) -> None:
    # With the ranks themselves as readings, the interval's ends are the chosen ranks.
    estimate = quantile(np.arange(1, n + 1, dtype=float), q)
    below = np.cumsum([comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)])
    # Reading l lies above the quantile when fewer than l readings lie below the quantile, and
    # reading u when u or more do not.
    lows = [rank for rank in range(1, n + 1) if below[rank - 1] <= 0.025]
    highs = [rank for rank in range(1, n + 1) if 1 - below[rank - 1] <= 0.025]
    assert estimate.low == max(lows) if lows else isnan(estimate.low)
    assert estimate.high == min(highs) if highs else isnan(estimate.high)


def test_rank_intervals_cover_the_true_quantile() -> None:
    rng = np.random.default_rng(0)
    truth = -np.log(1 - 0.9)
    estimates = [quantile(rng.exponential(size=100), 0.9) for _ in range(1000)]
    assert np.mean([entry.low <= truth <= entry.high for entry in estimates]) >= 0.94


def test_a_tail_without_enough_readings_is_not_settled() -> None:
    few = quantile(np.linspace(1, 1.001, 20), 0.95)
    assert isnan(few.high)
    assert not few.settled
    assert quantile(np.linspace(1, 1.001, 400), 0.95).settled
    assert not quantile(np.geomspace(1, 1000, 400), 0.95).settled


def test_ratios_of_paired_readings_hold_the_truth_although_rounds_differ() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for trial in range(60):
        load = rng.lognormal(0, 0.5, (8, 1))
        slow, fast = (scale * load * rng.lognormal(0, 0.05, (8, 15)) for scale in (3.0, 1.5))
        estimate = ratio(slow, fast, trial)
        covered.append(estimate.low <= 2 <= estimate.high)
        assert estimate.value == np.median(slow) / np.median(fast)
    assert np.mean(covered) > 0.85


@pytest.mark.parametrize("rounds", [1, 4])
def test_a_few_readings_have_a_ratio_and_no_interval(rounds: int) -> None:
    estimate = ratio(np.linspace(4, 5, rounds)[:, None], np.linspace(2, 2.5, rounds)[:, None])
    assert estimate.value == 2
    assert isnan(estimate.low)


def test_a_constant_ratio_has_an_interval_of_no_width() -> None:
    below = np.random.default_rng(2).uniform(1, 2, (5, 3))
    estimate = ratio(np.full((5, 3), 6.0), np.full((5, 3), 2.0))
    assert (estimate.low, estimate.value, estimate.high) == (3, 3, 3)
    with pytest.raises(ValueError, match="not paired"):
        ratio(below, below[:, :2])


def test_a_total_adds_count_times_mean_and_its_spread() -> None:
    rng = np.random.default_rng(3)
    samples = [rng.normal(5, 1, 100), rng.normal(2, 0.1, 400)]
    estimate = total([10, 100], samples)
    assert estimate.value == pytest.approx(10 * samples[0].mean() + 100 * samples[1].mean())
    spread = np.hypot(10 * samples[0].std() / 10, 100 * samples[1].std() / 20)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
