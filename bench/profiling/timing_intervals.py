"""Intervals of clock readings: rank intervals of quantiles, bootstrap intervals of ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import quantile_test

from probes.bootstrap import TEST_DRAWS

LEVEL = 0.95
DRAWS = 2000
LEAST = 5
"""Fewest readings for a bootstrap: with fewer its intervals are far too narrow."""
PRECISION = 0.10
"""Largest width of a rank interval, as a share of the quantile, at which a table prints it."""

Readings = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, whose ends are nan where there are too few readings."""

    value: float
    low: float
    high: float

    @property
    def settled(self) -> bool:
        """Whether the interval is known and within PRECISION."""
        return bool(
            np.isfinite(self.low + self.high)
            and self.high - self.low <= PRECISION * abs(self.value)
        )


def quantile(readings: Readings, q: float) -> Estimate:
    """A quantile with a distribution-free rank interval (David and Nagaraja 2003, 7.1).

    The number of readings below the true quantile is binomial (n, q); the interval takes the ranks
    between its tails.
    """
    ordered = np.sort(readings, axis=None)
    span = quantile_test(ordered, p=q).confidence_interval(LEVEL)
    return Estimate(float(np.quantile(ordered, q)), float(span.low), float(span.high))


def ratio(above: Readings, below: Readings, seed: int = 0) -> Estimate:
    """Median of ``above`` over median of ``below``, both rounds x readings, resampled in pairs.

    Each draw resamples rounds, then readings within them, the same for both sides: a disturbed
    round disturbs both engines. Raises ValueError for different shapes.
    """
    value = float(np.median(above) / np.median(below))
    rounds, each = above.shape
    if above.shape != below.shape:
        raise ValueError(f"readings are not paired: {above.shape} and {below.shape}")
    if above.size < LEAST:
        return Estimate(value, np.nan, np.nan)
    rng = np.random.default_rng([seed, rounds, each])
    row = rng.integers(rounds, size=(DRAWS, rounds, 1))
    column = rng.integers(each, size=(DRAWS, rounds, each))
    ratios = np.median(above[row, column], axis=(1, 2)) / np.median(below[row, column], axis=(1, 2))
    return Estimate(value, *_interval(ratios))


def total(counts: Sequence[float], samples: Sequence[Readings], seed: int = 0) -> Estimate:
    """Sum over terms of count x mean of the term's samples, which are resampled term by term."""
    value = sum(count * readings.mean() for count, readings in zip(counts, samples, strict=True))
    rng = np.random.default_rng([seed, len(samples)])
    sums = np.zeros(DRAWS)
    for count, readings in zip(counts, samples, strict=True):
        sums += count * readings[rng.integers(len(readings), size=(DRAWS, len(readings)))].mean(1)
    return Estimate(float(value), *_interval(sums))


def ratio_of_groups(
    new: Sequence[Readings], base: Sequence[Readings], seed: int = 0, draws: int = TEST_DRAWS
) -> tuple[float, float, float, float]:
    """(ratio of medians, low, high, p) of groups of readings.

    Interval and p are nan where a side has a single reading. Raises ValueError for readings that
    are not finite.
    """
    if not all(np.isfinite(readings).all() for readings in (*new, *base)):
        raise ValueError("a clock reading is not finite; measure again")
    value = float(np.median(np.concatenate(new)) / np.median(np.concatenate(base)))
    if min(sum(map(len, new)), sum(map(len, base))) < 2:
        return value, np.nan, np.nan, np.nan
    rng = np.random.default_rng(seed)
    ratios = _drawn_medians(new, rng, draws) / _drawn_medians(base, rng, draws)
    beyond = min(int((ratios <= 1).sum()), int((ratios >= 1).sum()))
    return value, *_interval(ratios), min(1.0, 2 * (1 + beyond) / (draws + 1))


def _interval(draws: Readings) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _drawn_medians(groups: Sequence[Readings], rng: np.random.Generator, draws: int) -> Readings:
    lengths = np.array([len(group) for group in groups])
    table = np.array([np.resize(group, lengths.max()) for group in groups])
    # Every drawn group gives equally many readings, so that all draws form one array.
    row = rng.integers(len(groups), size=(draws, len(groups), 1))
    column = rng.integers(lengths[row], size=(draws, len(groups), lengths.max()))
    medians: Readings = np.median(table[row, column], axis=(1, 2))
    return medians
