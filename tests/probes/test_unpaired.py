"""The difference of means over different images against Welch's test and on known data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from probes.unpaired import unpaired_difference


def test_normal_scores_agree_with_welch() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.3, 1.0, (4, 250)), rng.normal(0.0, 2.0, (4, 400))
    gap = unpaired_difference(a, b)
    welch = ttest_ind(a, b, axis=1, equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert gap.mean == pytest.approx(a.mean(1) - b.mean(1))
    assert gap.low == pytest.approx(interval.low, abs=0.02)
    assert gap.high == pytest.approx(interval.high, abs=0.02)
    assert gap.p == pytest.approx(welch.pvalue, abs=0.02)
    assert np.array_equal(gap.p <= 0.05, (gap.low > 0) | (gap.high < 0))


@pytest.mark.parametrize("count", [12, 60])
def test_equal_means_are_seldom_told_apart(count: int) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.lognormal(size=(400, count)), rng.lognormal(size=(400, count))
    assert (unpaired_difference(a, b, draws=999).p <= 0.05).mean() <= 0.06


def test_undefined_scores_are_left_out_and_too_few_have_no_interval() -> None:
    a = np.array([[1.0, 2.0, np.nan, 4.0], [1.0, np.nan, np.nan, np.nan], [np.nan] * 4])
    b = np.array([[1.0, 0.0, 2.5], [0.5, 0.25, 0.0], [1.0, 2.0, 3.0]])
    gap = unpaired_difference(a, b, draws=199)
    alone = unpaired_difference(a[:1, [0, 1, 3]], b[:1], draws=199)
    assert gap.low[0] == alone.low[0]
    assert gap.mean[1] == pytest.approx(0.75)
    assert np.isnan([gap.low[1], gap.p[1], gap.mean[2]]).all()


def test_constants_differ_or_not() -> None:
    gap = unpaired_difference(np.array([[0.5] * 9, [0.5] * 9]), np.array([[0.5] * 8, [0.25] * 8]))
    assert gap.mean.tolist() == [0.0, 0.25]
    assert gap.p[0] == 1
    assert gap.p[1] <= 0.05


@pytest.mark.parametrize(("value", "counts"), [(0.1, (10, 7)), (0.1, (371, 246)), (12.3, (9, 5))])
def test_equal_constants_that_are_not_exact_in_binary_do_not_differ(
    value: float, counts: tuple[int, int]
) -> None:
    gap = unpaired_difference(*(np.full((1, count), value) for count in counts))
    assert (gap.mean[0], gap.low[0], gap.high[0], gap.p[0]) == (0, 0, 0, 1)
