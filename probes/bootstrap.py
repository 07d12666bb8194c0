"""Intervals and tests over images: the image is the unit that is drawn again, never the pixel.

The bootstrap is studentised and symmetric (Hall 1992, The Bootstrap and Edgeworth Expansion, 3.6): with m and s the
mean and its standard error in the sample, m* and s* in a resample, and t* = (m* - m) / s*,

    interval:  m - c s to m + c s,  where c is the quantile of |t*| at the level
    p of m = 0:  (1 + number of |t*| >= |m| / s) / (draws + 1)

Dividing by s* follows the skewness of scores, which quantiles of m* ignore; p is never below 1 / (draws + 1).
All cells are drawn with the same images, so differences between cells are paired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
TEST_DRAWS = 9999
"""More draws where a p-value is wanted: the floor 1e-4 lets one cell stand out among hundreds."""
LEVEL = 0.95
_ENTRIES_AT_ONCE = 1 << 20
_ROUNDING = 1e-12

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Means of many scores with intervals; nan scores (undefined for an image) are left out.

    One score has a mean and no interval.
    """

    mean: Array
    low: Array
    high: Array


@dataclass(frozen=True, slots=True)
class Difference(Interval):
    """Means of differences with intervals, and the two-sided p-values of no difference; nan where none is defined."""

    p: Array


@lru_cache(maxsize=4)
def resampling_weights(images: int, draws: int = DRAWS, seed: int = 0) -> Array:
    """How often each image occurs in each of the draws, draws x images; shared, so it cannot be written to."""
    rng = np.random.default_rng([seed, images])
    weights = rng.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)
    weights.setflags(write=False)
    return weights


def resampled_means(scores: Array, weights: Array) -> Array:
    """Means of each row of ``scores`` (cells x images) in every draw, cells x draws."""
    known = np.isfinite(scores)
    total = np.where(known, scores, 0.0) @ weights.T
    count = known.astype(np.float64) @ weights.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def intervals(scores: Array, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """Mean and interval of each row of ``scores`` (cells x images), within the range of the row's scores."""
    found = _bootstrapped(scores, draws, seed, level)
    return Interval(found.mean, found.low, found.high)


def paired_difference(
    a: Array, b: Array, draws: int = TEST_DRAWS, seed: int = 0, level: float = LEVEL
) -> Difference:
    """Mean of a - b over images, row by row, with its paired interval and test.

    Equal up to rounding is equal: equal masks have scores whose means round to either side, always to the same one.
    """
    gap = np.atleast_2d(a - b)
    gap = np.where(np.abs(gap) <= _ROUNDING * (np.abs(a) + np.abs(b)), 0.0, gap)
    return _bootstrapped(gap, draws, seed, level)


def _bootstrapped(scores: Array, draws: int, seed: int, level: float) -> Difference:
    weights = resampling_weights(scores.shape[1], draws, seed)
    known = np.isfinite(scores)
    count = known.sum(1)
    lowest, highest = (
        np.where(known, scores, np.inf).min(1),
        np.where(known, scores, -np.inf).max(1),
    )
    mean = np.where(count > 0, np.where(known, scores, 0.0).sum(1) / np.maximum(count, 1), np.nan)
    # A constant's mean is that constant: rounding would leave it an error of its own size.
    mean = np.where(lowest == highest, lowest, mean)
    error = _standard_errors(np.where(known, scores - mean[:, None], 0.0), count)
    quantile, p = np.full(len(scores), np.nan), np.full(len(scores), np.nan)
    for part in _parts(len(scores), draws):
        t = _t_of_draws(scores[part], mean[part], weights)
        defined = (count[part] > 1) & ~np.isnan(t).any(1)
        if defined.any():
            t, m, s = t[defined], mean[part][defined], error[part][defined]
            # The rank that makes the interval leave out zero exactly where p is at most 1 - level.
            rank = min(int(np.ceil(level * (draws + 1))), draws) - 1
            quantile[part][defined] = np.partition(t, rank, axis=1)[:, rank]
            with np.errstate(invalid="ignore", divide="ignore"):
                observed = np.where(m == 0, 0.0, np.abs(m) / s)
            p[part][defined] = (1 + (t >= observed[:, None]).sum(1)) / (draws + 1)
    reach = np.where(error == 0, 0.0, quantile * np.where(error == 0, 1.0, error))
    # A few tied images can make a resample constant and its t infinite: no mean lies outside what was ever scored.
    low, high = np.maximum(mean - reach, lowest), np.minimum(mean + reach, highest)
    unknown = np.isnan(quantile)
    return Difference(mean, np.where(unknown, np.nan, low), np.where(unknown, np.nan, high), p)


def _t_of_draws(scores: Array, mean: Array, weights: Array) -> Array:
    """|t*| of each row in every draw; infinite where a draw is constant elsewhere, nan where it has no score."""
    known = np.isfinite(scores)
    centred = np.where(known, scores - mean[:, None], 0.0)
    count = (
        np.full(1, float(scores.shape[1])) if known.all() else known.astype(np.float64) @ weights.T
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = centred @ weights.T / count
        variance = (centred**2) @ weights.T / count - shift**2
        # Below rounding of the two terms, a draw's variance is zero.
        flat = variance <= 1e-12 * shift**2
        t: Array = np.abs(shift) / np.sqrt(np.where(flat, 0.0, variance) / count)
    return np.where(flat & (shift == 0), 0.0, t)


def _standard_errors(centred: Array, count: NDArray[np.int_]) -> Array:
    count = np.maximum(count, 1)
    error: Array = np.sqrt((centred**2).sum(1)) / count
    return error


def _parts(rows: int, draws: int) -> Iterator[slice]:
    at_once = max(1, _ENTRIES_AT_ONCE // draws)
    return (slice(start, start + at_once) for start in range(0, rows, at_once))


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over images with its interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """As tables print it."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def score_of(per_image: Array) -> Score:
    """Mean and interval of per-image scores; nan marks an image for which the score is undefined."""
    span = intervals(per_image[None])
    return Score(float(span.mean[0]), float(span.low[0]), float(span.high[0]))
