"""Intervals over pictures: the picture is the unit that is drawn again, never the pixel.

All cells are drawn with the same pictures, so differences between cells are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
LEVEL = 0.95
_CELLS_AT_ONCE = 512

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Means of many scores with percentile intervals; nan scores (undefined for a picture) are left out."""

    mean: Array
    low: Array
    high: Array


def resampling_weights(pictures: int, draws: int = DRAWS, seed: int = 0) -> Array:
    """How often each picture occurs in each of the draws, draws x pictures."""
    rng = np.random.default_rng([seed, pictures])
    return rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=draws).astype(np.float64)


def resampled_means(scores: Array, weights: Array) -> Array:
    """Means of each row of ``scores`` (cells x pictures) in every draw, cells x draws."""
    known = np.isfinite(scores)
    total = np.where(known, scores, 0.0) @ weights.T
    count = known.astype(np.float64) @ weights.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def intervals(scores: Array, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """Mean and percentile interval of each row of ``scores`` (cells x pictures)."""
    weights = resampling_weights(scores.shape[1], draws, seed)
    known = np.isfinite(scores)
    count = known.sum(1)
    mean = np.where(count > 0, np.where(known, scores, 0.0).sum(1) / np.maximum(count, 1), np.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.full(len(scores), np.nan), np.full(len(scores), np.nan)
    for start in range(0, len(scores), _CELLS_AT_ONCE):
        part = slice(start, start + _CELLS_AT_ONCE)
        means = resampled_means(scores[part], weights)
        defined = np.isfinite(means).all(1)
        if defined.any():
            low[part][defined], high[part][defined] = np.quantile(means[defined], tails, axis=1)
    return Interval(mean, low, high)


def paired_difference(a: Array, b: Array, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """Mean of a - b over pictures, row by row, with its paired interval."""
    return intervals(np.atleast_2d(a - b), draws, seed, level)
