"""Exact intervals of proportions, for scores that bootstraps cannot bound.

They follow from binomial tails (Clopper and Pearson 1934, The Use of Confidence or Fiducial Limits
Illustrated in the Case of the Binomial) and cover at least as often as they claim.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta


def interval_of_share(chosen: NDArray[np.bool_], level: float) -> tuple[float, float]:
    """The interval of the share of chosen images."""
    ones, count, tail = int(chosen.sum()), len(chosen), (1 - level) / 2
    # Binomial tails are those of the beta distribution.
    low = float(beta.ppf(tail, ones, count - ones + 1)) if ones else 0.0
    high = float(beta.ppf(1 - tail, ones + 1, count - ones)) if ones < count else 1.0
    return low, high


def interval_of_difference(effects: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The interval of the mean of effects that are -1, 0 or 1.

    The mean is the share of 1 minus that of -1. The intervals of both are at (1 + level) / 2, so
    that both hold at ``level`` (Bonferroni).
    """
    more = interval_of_share(effects == 1, (1 + level) / 2)
    less = interval_of_share(effects == -1, (1 + level) / 2)
    return more[0] - less[1], more[1] - less[0]
