"""Bootstrap intervals and tests over images; the image is resampled, never the pixel.

The bootstrap is studentised and symmetric (Hall 1992, The Bootstrap and Edgeworth Expansion, 3.6).
With m and s the mean and its standard error in the sample, m* and s* those in a resample, and
t* = (m* - m) / s*,

    interval:  m - c s to m + c s,  where c is the quantile of |t*| at the level
    p of m = 0:  (1 + number of |t*| >= |m| / s) / (draws + 1)

Dividing by s* accounts for the skewness of scores, which quantiles of m* ignore; p is never below
1 / (draws + 1). n equal scores show no spread, so their p is not below 2^(1 - n), the least of a
sign test. All cells share the resampled images, so differences between cells are paired.

Effects (differences, correlations) of fewer than 200 images are tested more strictly
(:mod:`probes.reaches`).

Where too many resamples are constant, they bound nothing. Intervals of scores that are 0 or 1, and
of effects that are -1, 0 or 1, are then exact ones (:mod:`probes.proportions`).

Other intervals of scores stay within their range, so that of fewer than six scores is too narrow:
the range of n scores of a symmetric distribution covers the mean in at most 1 - 2^(1 - n) of all
samples. Those of effects stay within the range of the effects and zero. An interval of effects
leaves out zero exactly where p is at most 1 - level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from probes.proportions import interval_of_difference, interval_of_share
from probes.reaches import FEW, strict_reaches, symmetric_reaches

DRAWS = 2000
TEST_DRAWS = 9999
"""More draws for p-values: with the least p of 1e-4 (2e-4 of few images), one cell can stand out
among hundreds."""
LEVEL = 0.95
ROUNDING = 1e-12
"""Relative difference below which numbers count as equal."""
_ENTRIES_AT_ONCE = 1 << 20

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Means of many scores with intervals.

    Scores that are undefined for an image (nan) are left out. A single score has a mean and no
    interval (nan).
    """

    mean: Array
    low: Array
    high: Array


@dataclass(frozen=True, slots=True)
class Difference(Interval):
    """Means of differences, their intervals, and two-sided p-values; nan if undefined."""

    p: Array


@lru_cache(maxsize=4)
def resampling_weights(images: int, draws: int = DRAWS, seed: int = 0) -> Array:
    """How often each image occurs in each draw, draws x images; read-only, as it is cached."""
    rng = np.random.default_rng([seed, images])
    weights = rng.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)
    weights.setflags(write=False)
    return weights


def resampled_means(scores: Array, weights: Array) -> Array:
    """Means of each row of ``scores`` (cells x images) in every draw, cells x draws."""
    defined = np.isfinite(scores)
    total = np.where(defined, scores, 0.0) @ weights.T
    count = defined.astype(np.float64) @ weights.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def intervals(scores: Array, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """Mean and interval of each row of ``scores`` (cells x images), within the row's range."""
    result = _bootstrapped(scores, draws, seed, level)
    mean, low, high = _spans(result)
    for row, values in _unbounded(result, scores, (0.0, 1.0)):
        low[row], high[row] = interval_of_share(values == 1.0, level)
    return Interval(mean, low, high)


def effects(scores: Array, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Difference:
    """Mean, interval and test of each row of scores for which zero means no effect."""
    result = _bootstrapped(scores, draws, seed, level, few=FEW)
    lowest, highest = np.minimum(result.lowest, 0.0), np.maximum(result.highest, 0.0)
    mean, low, high = _spans(replace(result, lowest=lowest, highest=highest))
    for row, values in _unbounded(result, scores, (-1.0, 0.0, 1.0)):
        low[row], high[row] = interval_of_difference(values, level)
    # The test decides where rounding puts an end of the interval on the other side of zero.
    found, least = result.p <= (1 - level) * (1 + ROUNDING), np.finfo(np.float64).tiny
    low = np.where(found & (mean > 0), np.maximum(low, least), low)
    high = np.where(found & (mean < 0), np.minimum(high, -least), high)
    low = np.where(~found & (low > 0), 0.0, low)
    high = np.where(~found & (high < 0), 0.0, high)
    return Difference(mean, low, high, result.p)


def paired_difference(
    a: Array, b: Array, draws: int = TEST_DRAWS, seed: int = 0, level: float = LEVEL
) -> Difference:
    """Mean of a - b over images, row by row, with its paired interval and test.

    Scores that are equal up to rounding count as equal. Equal masks can have scores that differ by
    rounding, always in the same direction, which would otherwise be significant.
    """
    gap = np.atleast_2d(a - b)
    gap = np.where(np.abs(gap) <= ROUNDING * (np.abs(a) + np.abs(b)), 0.0, gap)
    return effects(gap, draws, seed, level)


@dataclass(frozen=True, slots=True)
class _Bootstrapped:
    """What intervals are made of, one value per row.

    The reaches are infinite where too many draws are constant, nan if undefined.
    """

    mean: Array
    below: Array
    """How far the interval reaches below the mean."""
    above: Array
    p: Array
    lowest: Array
    highest: Array


def _spans(result: _Bootstrapped) -> tuple[Array, Array, Array]:
    """Mean, low and high; no further than ``lowest`` and ``highest``."""
    low = np.maximum(result.mean - result.below, result.lowest)
    return result.mean, low, np.minimum(result.mean + result.above, result.highest)


def _unbounded(
    result: _Bootstrapped, scores: Array, among: tuple[float, ...]
) -> Iterator[tuple[int, Array]]:
    """The rows without bounds whose defined scores are all ``among`` these, and the scores."""
    for row in np.flatnonzero(np.isinf(result.below) | np.isinf(result.above)):
        values = scores[row][np.isfinite(scores[row])]
        if np.isin(values, among).all():
            yield int(row), values


def _bootstrapped(
    scores: Array, draws: int, seed: int, level: float, few: int = 0
) -> _Bootstrapped:
    """Bootstrap each row; rows of fewer than ``few`` scores are tested more strictly.

    Where so few scores of a row are defined that a draw of images has none, draws are of the images
    with a defined score alone.
    """
    result = _of_images(scores, draws, seed, level, few)
    defined = np.isfinite(scores)
    for row in np.flatnonzero(np.isnan(result.below) & (defined.sum(1) > 1)):
        own = _of_images(scores[row, defined[row]][None], draws, seed, level, few)
        for name in ("below", "above", "p"):
            getattr(result, name)[row] = getattr(own, name)[0]
    return result


def _of_images(scores: Array, draws: int, seed: int, level: float, few: int) -> _Bootstrapped:
    """Bootstrap each row over all images."""
    weights = resampling_weights(scores.shape[1], draws, seed)
    defined = np.isfinite(scores)
    count = defined.sum(1)
    lowest = np.where(defined, scores, np.inf).min(1)
    highest = np.where(defined, scores, -np.inf).max(1)
    mean = np.where(count > 0, np.where(defined, scores, 0.0).sum(1) / np.maximum(count, 1), np.nan)
    # Rounding would give a constant's mean an error as large as its standard error.
    mean = np.where(lowest == highest, lowest, mean)
    error = _standard_errors(np.where(defined, scores - mean[:, None], 0.0), count)
    below, above, p = (np.full(len(scores), np.nan) for _ in range(3))
    for part in _parts(len(scores), draws):
        t = _t_of_draws(scores[part], mean[part], weights)
        testable = (count[part] > 1) & ~np.isnan(t).any(1)
        for chosen, reaches in (
            (testable & (count[part] >= few), symmetric_reaches),
            (testable & (count[part] < few), strict_reaches),
        ):
            if chosen.any():
                n, m, s = (values[part][chosen] for values in (count, mean, error))
                with np.errstate(invalid="ignore", divide="ignore"):
                    observed = np.where(m == 0, 0.0, m / s)
                low, high, least = reaches(t[chosen], observed, n, level)
                # A constant has no reach, not 0 times infinity.
                below[part][chosen], above[part][chosen] = (
                    np.where(s == 0, 0.0, reach * np.where(s == 0, 1.0, s)) for reach in (low, high)
                )
                p[part][chosen] = least
    p = np.where((error == 0) & (mean != 0), np.maximum(p, 0.5 ** (count - 1.0)), p)
    return _Bootstrapped(mean, below, above, p, lowest, highest)


def _t_of_draws(scores: Array, mean: Array, weights: Array) -> Array:
    """t* of each row in every draw.

    It is infinite for a constant draw whose mean differs from ``mean``, nan for one without scores.
    """
    defined = np.isfinite(scores)
    centred = np.where(defined, scores - mean[:, None], 0.0)
    if defined.all():
        count = np.full(1, float(scores.shape[1]))
    else:
        count = defined.astype(np.float64) @ weights.T
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = centred @ weights.T / count
        variance = (centred**2) @ weights.T / count - shift**2
        # A variance below the rounding of its two terms is zero.
        flat = variance <= 1e-12 * shift**2
        t: Array = shift / np.sqrt(np.where(flat, 0.0, variance) / count)
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
        """The format of tables: mean [low, high]."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def score_of(per_image: Array) -> Score:
    """Mean and interval of per-image scores, where nan is an undefined score."""
    return _only(intervals(per_image[None]))


def effect_of(per_image: Array) -> Score:
    """The same of per-image effects: the interval leaves out zero exactly where the test rejects.

    Gains and correlations are effects: zero means none.
    """
    return _only(effects(per_image[None]))


def _only(interval: Interval) -> Score:
    return Score(float(interval.mean[0]), float(interval.low[0]), float(interval.high[0]))
