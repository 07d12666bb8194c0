"""Differences between groups of networks, paired over images, with the spread over seeds.

A group is one or more networks that differ by their seed alone. With n images, a groups of k_g
networks, d the per-image difference of the two groups' mean scores, and m the mean score of each
network over images,

    v     = sum over groups, networks of (m - mean of its group)^2 / f,   f = sum of (k_g - 1)
    se^2  = var(d) / n + v * (sum of 1 / k over the compared groups with two or more networks)

v pools the variance between seeds over all groups with two or more networks, which takes it to be
equal in all of them. The interval and the p-value are those of Student's t with Satterthwaite's
degrees of freedom, from n - 1 for the images and f for the seeds. Where the paired bootstrap over
images is stricter, its interval and p-value hold, so that what is significant is so in both tests.

A group of one network adds no such term: the difference is then one to *this one network*, and says
nothing about other seeds of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t

from probes.bootstrap import LEVEL, Array, Score, paired_difference


@dataclass(frozen=True, slots=True)
class Spread:
    """The variance of a network's mean score between seeds."""

    variance: float
    """nan where no group has two networks."""
    freedom: int
    """Degrees of freedom: networks less groups, over groups with two or more networks."""


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """The difference of two groups, and its test."""

    value: Score
    p: float
    over_seeds: bool
    """Whether the interval includes a spread over seeds."""


def spread_of(groups: Sequence[Array]) -> Spread:
    """Return the pooled variance between seeds; each group is networks x images."""
    several = [group.mean(1) for group in groups if len(group) > 1]
    freedom = sum(len(means) - 1 for means in several)
    if not freedom:
        return Spread(float("nan"), 0)
    squares = sum(float(((means - means.mean()) ** 2).sum()) for means in several)
    return Spread(squares / freedom, freedom)


def group_difference(first: Array, second: Array, spread: Spread) -> GroupDifference:
    """Return the mean of ``first`` minus that of ``second``, both networks x images."""
    means = first.mean(0), second.mean(0)
    images = paired_difference(means[0][None], means[1][None])
    mean, low, high, p = (float(x[0]) for x in (images.mean, images.low, images.high, images.p))
    several = [len(group) for group in (first, second) if len(group) > 1]
    if not several or not spread.freedom:
        return GroupDifference(Score(mean, low, high), p, False)
    gap = means[0] - means[1]
    of_images = float(gap.var(ddof=1)) / len(gap)
    of_seeds = spread.variance * sum(1 / count for count in several)
    variance = of_images + of_seeds
    if variance == 0:
        return GroupDifference(Score(mean, low, high), p, True)
    freedom = variance**2 / (of_images**2 / (len(gap) - 1) + of_seeds**2 / spread.freedom)
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * variance**0.5
    p = max(p, float(2 * t.sf(abs(mean) / variance**0.5, freedom)))
    return GroupDifference(Score(mean, min(low, mean - reach), max(high, mean + reach)), p, True)
