"""How far an interval reaches, in standard errors, by the distribution of t* in resamples.

Symbols are those of :mod:`probes.bootstrap`, whose symmetric interval reaches c s to both sides.
Effects (differences, correlations) of fewer than 200 images are tested more strictly. So few seldom
show how skewed their distribution is: of 12 differences from a lognormal distribution of mean zero,
the symmetric test rejects zero in 11 % of all cases. The equal-tailed bootstrap follows the
skewness of the sample (Hall 1992, 3.3), but rejects too often where tails are heavy on both sides.
So both have to reject, and by a margin of f = 1 + 4 / n:

    interval:  the wider of c and the quantiles of t* at (1 - level) / 2 and (1 + level) / 2,
               on each side, times f s
    p of m = 0:  the larger of the symmetric p and twice the smaller of the two tails of t*,
               beyond m / (f s) in place of m / s

The margin is the least whole multiple of 1 / n with which lognormal differences (skewness 6) are
rejected in 5 % of all cases or fewer at every n from 4 on. No test of a mean holds its rate on all
distributions (Bahadur and Savage 1956, The Nonexistence of Certain Statistical Procedures in
Nonparametric Problems): where most samples lack a rare outlier, none is safe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEW = 200
"""Below this number of images, effects are tested more strictly."""
MARGIN = 4.0
"""Such an interval is 1 + MARGIN / n times as wide as the sample alone would make it."""

Array = NDArray[np.float64]


def symmetric_reaches(
    t: Array, observed: Array, count: NDArray[np.int_], level: float
) -> tuple[Array, Array, Array]:
    """Reaches below and above the mean in standard errors, and p, of the symmetric bootstrap."""
    t, draws = np.abs(t), t.shape[1]
    # With this rank the interval excludes zero exactly where p is at most 1 - level.
    rank = min(int(np.ceil(level * (draws + 1))), draws) - 1
    quantile = np.partition(t, rank, axis=1)[:, rank]
    p = (1 + (t >= np.abs(observed)[:, None]).sum(1)) / (draws + 1)
    return quantile, quantile, p


def margin_of(count: NDArray[np.int_] | int) -> NDArray[np.float64]:
    """The factor by which effects over ``count`` images must exceed what the bootstrap asks."""
    n = np.asarray(count, np.float64)
    return np.where(n < FEW, 1 + MARGIN / np.maximum(n, 1), 1.0)


def strict_reaches(
    t: Array, observed: Array, count: NDArray[np.int_], level: float
) -> tuple[Array, Array, Array]:
    """The same where the equal-tailed bootstrap has to reject too, and both by the margin."""
    draws, margin = t.shape[1], margin_of(count)
    observed = observed / margin
    symmetric, _, p = symmetric_reaches(t, observed, count, level)
    rank = min(int(np.ceil((1 + level) / 2 * (draws + 1))), draws) - 1
    below, above = (
        margin * np.maximum(symmetric, np.partition(side, rank, axis=1)[:, rank])
        for side in (t, -t)
    )
    tail = np.minimum((t >= observed[:, None]).sum(1), (t <= observed[:, None]).sum(1))
    return below, above, np.clip(2 * (1 + tail) / (draws + 1), p, 1.0)
