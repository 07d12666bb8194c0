"""Many comparisons at once: false discovery rates, and tests against several probes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, t

from probes.bootstrap import LEVEL, ROUNDING, TEST_DRAWS, Array, Difference, paired_difference

RATE = 0.05
"""Expected share of false discoveries among the significant comparisons."""


def q_values(p: Array) -> Array:
    """The smallest false discovery rate at which each comparison is significant.

    The procedure is that of Benjamini and Hochberg (1995), which holds for independent or
    positively dependent p-values (Benjamini and Yekutieli 2001). Comparisons that share images are
    mostly so; differences between all pairs are not, and there the rate holds in simulations only.
    An undefined p-value stays nan and is not counted.
    """
    defined = np.isfinite(p)
    q = np.full(p.shape, np.nan)
    if defined.any():
        q[defined] = false_discovery_control(p[defined])
    return q


def over_permuted(
    scores: Array, permuted: Array, draws: int = TEST_DRAWS, level: float = LEVEL
) -> Difference:
    """Mean gain of ``scores`` (cells x images) over d probes of permuted labels, with a test.

    ``permuted`` is cells x d x images. Two probes of permuted labels differ from each other by far
    more than the test images explain, as each was fit to other labels. So a probe must also stand
    out among the permuted ones. If the true labels carry no information, the mean score of their
    probe is one more draw like those of the d others, and

        (mean score - mean of the d means) / (sd of the d means * sqrt(1 + 1 / d))

    follows Student's t distribution with d - 1 degrees of freedom. The p-value is the larger of
    this one and the paired one over images, and the interval is the wider of the two, so that a
    significant difference is significant in both tests.
    """
    count = permuted.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        paired = paired_difference(scores, permuted.mean(1), draws=draws, level=level)
        defined = np.isfinite(permuted)
        means = np.where(defined, permuted, 0.0).sum(-1) / defined.sum(-1)
        error = means.std(1, ddof=1) * np.sqrt(1 + 1 / count)
        p_over_draws = 2 * t.sf(np.abs(paired.mean) / error, count - 1)
        p_over_draws = np.where(paired.mean == 0, 1.0, p_over_draws)
    reach = t.ppf((1 + level) / 2, count - 1) * error
    return Difference(
        paired.mean,
        np.minimum(paired.low, paired.mean - reach),
        np.maximum(paired.high, paired.mean + reach),
        np.maximum(paired.p, p_over_draws),
    )


def over_strongest(gains: Sequence[Difference], level: float = LEVEL) -> Difference:
    """The gain over the strongest of several baselines, with the largest of their p-values.

    The largest p-value tests whether all baselines are exceeded. The interval is that of the gain
    over the strongest; where it leaves out zero and the largest p-value is above 1 - ``level``, it
    spans the interval of that p-value's baseline as well, so that interval and test agree.
    """
    strongest = np.argmin([gain.mean for gain in gains], axis=0)
    least_sure = np.argmax([gain.p for gain in gains], axis=0)

    def of(which: NDArray[np.intp], name: str) -> Array:
        table = np.stack([getattr(gain, name) for gain in gains])
        taken: Array = np.take_along_axis(table, which[None], axis=0)[0]
        return taken

    mean, low, high = (of(strongest, name) for name in ("mean", "low", "high"))
    p = of(least_sure, "p")
    unsure = p > (1 - level) * (1 + ROUNDING)
    return Difference(
        mean,
        np.where(unsure & (low > 0), np.minimum(low, of(least_sure, "low")), low),
        np.where(unsure & (high < 0), np.maximum(high, of(least_sure, "high")), high),
        p,
    )
