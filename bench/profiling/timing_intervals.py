"""What may be said of a few clock readings: quantiles with rank intervals, ratios with bootstrap intervals."""

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
"""Readings below which a bootstrap says nothing: its intervals would be far too narrow."""
PRECISION = 0.10
"""A quantile is worth printing when its rank interval spans at most this share of it."""

Readings = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; the ends are nan where the readings are too few for one."""

    value: float
    low: float
    high: float

    @property
    def settled(self) -> bool:
        """Whether the interval is known and no wider than the precision of a table."""
        return bool(
            np.isfinite(self.low + self.high)
            and self.high - self.low <= PRECISION * abs(self.value)
        )


def quantile(readings: Readings, q: float) -> Estimate:
    """A quantile with the order statistics that hold it: no distribution is assumed (David and Nagaraja 2003, 7.1).

    The number of readings below the true quantile is binomial (n, q); the interval takes the ranks between its tails.
    """
    ordered = np.sort(readings, axis=None)
    span = quantile_test(ordered, p=q).confidence_interval(LEVEL)
    return Estimate(float(np.quantile(ordered, q)), float(span.low), float(span.high))


def ratio(above: Readings, below: Readings, seed: int = 0) -> Estimate:
    """Median of ``above`` over median of ``below``, both rounds x readings, drawn again in pairs.

    Rounds are drawn first and readings within them second, the same for both: what disturbed a round disturbed both
    engines in it.
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
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def total(counts: Sequence[float], samples: Sequence[Readings], seed: int = 0) -> Estimate:
    """Sum over terms of count x mean of the term's samples, each term's samples drawn again."""
    value = sum(count * readings.mean() for count, readings in zip(counts, samples, strict=True))
    rng = np.random.default_rng([seed, len(samples)])
    sums = np.zeros(DRAWS)
    for count, readings in zip(counts, samples, strict=True):
        sums += count * readings[rng.integers(len(readings), size=(DRAWS, len(readings)))].mean(1)
    low, high = np.quantile(sums, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


def ratio_of_groups(
    new: Sequence[Readings], base: Sequence[Readings], seed: int = 0, draws: int = TEST_DRAWS
) -> tuple[float, float, float, float]:
    """(ratio of medians, low, high, p), from groups of readings; nan ends and p where a side has a single reading."""
    value = float(np.median(np.concatenate(new)) / np.median(np.concatenate(base)))
    if min(sum(map(len, new)), sum(map(len, base))) < 2:
        return value, np.nan, np.nan, np.nan
    rng = np.random.default_rng(seed)
    ratios = _drawn_medians(new, rng, draws) / _drawn_medians(base, rng, draws)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = min(int((ratios <= 1).sum()), int((ratios >= 1).sum()))
    return value, float(low), float(high), min(1.0, 2 * (1 + beyond) / (draws + 1))


def _drawn_medians(groups: Sequence[Readings], rng: np.random.Generator, draws: int) -> Readings:
    lengths = np.array([len(group) for group in groups])
    table = np.array([np.resize(group, lengths.max()) for group in groups])
    # As many readings from every drawn group, so that all draws are one array.
    row = rng.integers(len(groups), size=(draws, len(groups), 1))
    column = rng.integers(lengths[row], size=(draws, len(groups), lengths.max()))
    medians: Readings = np.median(table[row, column], axis=(1, 2))
    return medians
