"""Many comparisons at once: which survive a false discovery rate, and what a probe must beat among permuted ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import false_discovery_control, t

from probes.bootstrap import LEVEL, TEST_DRAWS, Array, Difference, paired_difference

RATE = 0.05
"""Expected share of wrong ones among the comparisons that are called."""


def q_values(p: Array) -> Array:
    """The smallest false discovery rate at which each comparison is called (Benjamini and Hochberg 1995).

    Images are shared, so comparisons rise and fall together, which the procedure allows (Benjamini and Yekutieli
    2001). An undefined p stays nan and is not counted.
    """
    known = np.isfinite(p)
    q = np.full(p.shape, np.nan)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q


def over_permuted(
    ours: Array, permuted: Array, draws: int = TEST_DRAWS, level: float = LEVEL
) -> Difference:
    """Mean of ours (cells x images) less that of d permuted probes (cells x d x images), with interval and test.

    Two probes of permuted labels differ from each other by far more than test images explain: each was fit to other
    labels. So a probe has to stand out among permuted ones too. If its own labels say nothing, its mean score is one
    more draw beside theirs, and

        (ours - mean) / (sd sqrt(1 + 1 / d))

    follows Student's t with d - 1 degrees of freedom. The p-value is the larger of this one and of the paired one over
    images, the interval the wider: both must speak for a difference.
    """
    count = permuted.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = paired_difference(ours, permuted.mean(1), draws=draws, level=level)
        known = np.isfinite(permuted)
        means = np.where(known, permuted, 0.0).sum(-1) / known.sum(-1)
        error = means.std(1, ddof=1) * np.sqrt(1 + 1 / count)
        luck = np.where(found.mean == 0, 1.0, 2 * t.sf(np.abs(found.mean) / error, count - 1))
    reach = t.ppf((1 + level) / 2, count - 1) * error
    return Difference(
        found.mean,
        np.minimum(found.low, found.mean - reach),
        np.maximum(found.high, found.mean + reach),
        np.maximum(found.p, luck),
    )


def over_all(baselines: Sequence[Difference]) -> Difference:
    """The gain over the strongest of several rivals; its p-value is the largest, for all of them must be beaten."""
    weakest = np.argmin([baseline.mean for baseline in baselines], axis=0)[None]
    mean, low, high = (
        np.take_along_axis(
            np.stack([getattr(baseline, name) for baseline in baselines]), weakest, axis=0
        )[0]
        for name in ("mean", "low", "high")
    )
    return Difference(mean, low, high, np.max([baseline.p for baseline in baselines], axis=0))
