"""The difference of two means over different images, by the bootstrap of ``bootstrap.py``.

Both sets of images are resampled independently. With m and s the difference of the means and its
standard error, sqrt(s_a^2 + s_b^2), the statistic of a draw is t* = (m* - m) / s*, from which
intervals and tests follow as for one set of effects.
"""

from __future__ import annotations

import numpy as np

from probes.bootstrap import (
    LEVEL,
    ROUNDING,
    TEST_DRAWS,
    Array,
    Difference,
    resampling_weights,
)
from probes.reaches import FEW, strict_reaches, symmetric_reaches


def unpaired_difference(
    a: Array, b: Array, draws: int = TEST_DRAWS, seed: int = 0, level: float = LEVEL
) -> Difference:
    """Mean of a minus mean of b, row by row, with intervals and two-sided p-values.

    ``a`` is rows x images and ``b`` rows x other images; nan is an undefined score. A row with
    fewer than two scores on either side has a difference without interval (nan). With fewer than
    200 scores on a side it is tested more strictly, as in ``bootstrap.py``.
    """
    rows = [
        _row(x[np.isfinite(x)], y[np.isfinite(y)], draws, seed, level)
        for x, y in zip(np.atleast_2d(a), np.atleast_2d(b), strict=True)
    ]
    return Difference(*np.array(rows, np.float64).reshape(-1, 4).T)


def _row(a: Array, b: Array, draws: int, seed: int, level: float) -> tuple[float, ...]:
    """Mean, low, high and p of one difference."""
    count = min(len(a), len(b))
    if count < 1:
        return (np.nan,) * 4
    gap = _mean(a) - _mean(b)
    if abs(gap) <= ROUNDING * (abs(_mean(a)) + abs(_mean(b))):
        gap = 0.0
    if count < 2:
        return gap, np.nan, np.nan, np.nan
    error = np.hypot(*(np.sqrt(_variance(x) / len(x)) for x in (a, b)))
    means, variances = zip(
        *(_of_draws(x, draws, seed + index) for index, x in enumerate((a, b))), strict=True
    )
    shift = means[0] - means[1] - gap
    spread = np.sqrt(variances[0] / len(a) + variances[1] / len(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        is_rounding = np.abs(shift) <= ROUNDING * (np.abs(means[0]) + np.abs(means[1]) + abs(gap))
        t = np.where(is_rounding, 0.0, shift / spread)
        observed = 0.0 if gap == 0 else gap / error
    reaches = symmetric_reaches if count >= FEW else strict_reaches
    below, above, p = reaches(t[None], np.array([observed]), np.array([count]), level)
    if error == 0:
        # Two constants: a test of ranks could not give less.
        return gap, gap, gap, 1.0 if gap == 0 else max(float(p[0]), 0.5 ** (count - 1))
    return gap, gap - float(below[0]) * error, gap + float(above[0]) * error, float(p[0])


def _mean(values: Array) -> float:
    """The mean, which of a constant is the constant itself, without rounding."""
    return float(values[0] if values.min() == values.max() else values.mean())


def _variance(values: Array) -> float:
    return float(0.0 if values.min() == values.max() else values.var())


def _of_draws(values: Array, draws: int, seed: int) -> tuple[Array, Array]:
    """Mean and variance of every resample."""
    weights = resampling_weights(len(values), draws, seed)
    if values.min() == values.max():
        # Rounding would give a constant's mean an error.
        return np.full(draws, values[0]), np.zeros(draws)
    mean = weights @ values / len(values)
    centred = values - values.mean()
    variance = weights @ centred**2 / len(values) - (mean - values.mean()) ** 2
    return mean, np.maximum(variance, 0.0)
