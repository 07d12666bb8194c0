"""Differences between groups of networks, paired over images, with the spread over seeds.

A group is one or more networks that differ by their seed alone. With n images, a groups of k_g
networks, d the per-image difference of the two groups' mean scores, and m the mean score of each
network over images,

    v        = sum over groups, networks of (m - mean of its group)^2 / f,  f = sum of (k_g - 1)
    reach^2  = t(n - 1)^2 var(d) / n + t(f)^2 v * (sum of 1 / k over the two compared groups)

where t(f) is the quantile of Student's t with f degrees of freedom. v pools the variance between
seeds over all groups with two or more networks, which takes it to be equal in all groups, those of
one network (k = 1) among them. With so few seeds Satterthwaite's degrees of freedom are too many
where both terms are of one size (7 % of groups that differ by their seeds alone are told apart at
5 %); adding the squared reaches keeps the rate at about 5 % or less. p is the one at which the
interval would end at zero. Where the paired bootstrap over images is stricter, its interval and p
hold.

Without any group of two or more networks the interval is over images alone: these networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t

from probes.bootstrap import LEVEL, Array, Score, paired_difference

_LEAST_P = 1e-12


@dataclass(frozen=True, slots=True)
class Spread:
    """The variance of a network's mean score between seeds."""

    variance: float
    """nan where no group has two networks."""
    freedom: int
    """Degrees of freedom: networks less groups, over groups with two or more networks."""


NO_SPREAD = Spread(float("nan"), 0)


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """The difference of two groups, and its test."""

    value: Score
    p: float
    over_seeds: bool
    """Whether the interval includes a spread over seeds."""


def spread_of(groups: Sequence[Array]) -> Spread:
    """Return the pooled variance between seeds; each group is networks x images.

    Images whose score is undefined in any network of a group are left out of that group.
    """
    several = [_means(group) for group in groups if len(group) > 1]
    freedom = sum(len(means) - 1 for means in several)
    if not freedom:
        return NO_SPREAD
    squares = sum(float(((means - means.mean()) ** 2).sum()) for means in several)
    return Spread(squares / freedom, freedom)


def _means(group: Array) -> Array:
    """Mean score of each network over the images with a score in all of them."""
    means: Array = group[:, np.isfinite(group).all(0)].mean(1)
    return means


def group_difference(first: Array, second: Array, spread: Spread) -> GroupDifference:
    """Return the mean of ``first`` minus that of ``second``, both networks x images.

    With ``NO_SPREAD`` the interval is over images alone, and says something of these networks only.
    Images whose score is undefined in any network are left out.
    """
    defined = np.isfinite(first).all(0) & np.isfinite(second).all(0)
    first, second = first[:, defined], second[:, defined]
    means = first.mean(0), second.mean(0)
    images = paired_difference(means[0][None], means[1][None])
    mean, low, high, p = (float(x[0]) for x in (images.mean, images.low, images.high, images.p))
    if not spread.freedom:
        return GroupDifference(Score(mean, low, high), p, False)
    gap = means[0] - means[1]
    of_images = float(gap.var(ddof=1)) / len(gap)
    of_seeds = spread.variance * (1 / len(first) + 1 / len(second))

    def reach(p: float) -> float:
        """Half the width of the interval at the level 1 - p."""
        over_images, over_seeds = (
            float(t.isf(p / 2, freedom)) for freedom in (len(gap) - 1, spread.freedom)
        )
        return math.sqrt(over_images**2 * of_images + over_seeds**2 * of_seeds)

    wide = reach(1 - LEVEL)
    p = max(p, _p_value(reach, abs(mean)))
    return GroupDifference(Score(mean, min(low, mean - wide), max(high, mean + wide)), p, True)


def _p_value(reach: Callable[[float], float], mean: float) -> float:
    """Return the p at which the reach is the mean; no less than ``_LEAST_P``."""
    if reach(_LEAST_P) <= mean:
        return _LEAST_P
    return float(brentq(lambda p: reach(p) - mean, _LEAST_P, 1.0)) if mean > 0 else 1.0
