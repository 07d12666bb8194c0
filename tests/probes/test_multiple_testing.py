"""Significance of many comparisons, against definitions and scipy's two-sample test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_ind

from probes.bootstrap import paired_difference
from probes.multiple_testing import RATE, over_permuted, over_strongest, q_values


def test_q_values_agree_with_the_step_up_procedure() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.uniform(size=80), rng.uniform(0, 0.002, size=20)])
    for rate in (0.01, 0.05, 0.2):
        ordered = np.sort(p)
        below = [k for k in range(1, 101) if ordered[k - 1] <= rate * k / 100]
        significant = p <= ordered[below[-1] - 1] if below else np.zeros(100, bool)
        assert np.array_equal(q_values(p) <= rate, significant)
    assert significant.sum() > 20


def test_an_undefined_p_is_not_counted() -> None:
    p = np.array([0.01, np.nan, 0.02, 0.5])
    actual = q_values(p)
    assert np.isnan(actual[1])
    assert np.array_equal(actual[[0, 2, 3]], q_values(p[[0, 2, 3]]))
    assert np.isnan(q_values(np.full(3, np.nan))).all()


def test_false_discoveries_stay_within_the_rate() -> None:
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(200):
        truth = np.repeat([0.0, 0.6], [60, 40])
        scores = truth[:, None] + rng.normal(size=(100, 50))
        significant = q_values(paired_difference(scores, np.zeros(50), draws=999).p) <= RATE
        shares.append((significant & (truth == 0)).sum() / max(significant.sum(), 1))
        assert significant[truth > 0].mean() > 0.5
    assert np.mean(shares) < RATE


def test_a_probe_among_permuted_ones_is_tested_as_one_draw_more() -> None:
    rng = np.random.default_rng(2)
    # Images differ little and draws much, so the test over draws decides.
    permuted = rng.normal(0, 0.2, size=(30, 5, 1)) + rng.normal(0, 0.01, size=(30, 5, 200))
    scores = rng.normal(0.3, 0.2, size=(30, 1)) + rng.normal(0, 0.01, size=(30, 200))
    actual = over_permuted(scores, permuted, draws=999)
    expected = [
        ttest_ind([row.mean()], permuted_rows.mean(1))
        for row, permuted_rows in zip(scores, permuted, strict=True)
    ]
    np.testing.assert_allclose(
        actual.p, np.maximum([test.pvalue for test in expected], 0.001), rtol=1e-6
    )
    spans = [test.confidence_interval() for test in expected]
    np.testing.assert_allclose(actual.low, [span.low for span in spans], rtol=1e-6)
    np.testing.assert_allclose(actual.high, [span.high for span in spans], rtol=1e-6)


def test_few_images_widen_the_interval_of_equal_draws() -> None:
    rng = np.random.default_rng(3)
    scores, permuted = rng.normal(0.1, 1.0, size=(1, 20)), np.zeros((1, 5, 20))
    actual, paired = over_permuted(scores, permuted), paired_difference(scores, np.zeros(20))
    assert (actual.low[0], actual.high[0], actual.p[0]) == (
        paired.low[0],
        paired.high[0],
        paired.p[0],
    )


def test_uninformative_probes_are_significant_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(4)
    cells = 2000
    draws = rng.normal(0, 0.1, size=(cells, 6, 1)) + rng.normal(0, 0.3, size=(cells, 1, 60))
    draws = draws + rng.normal(0, 0.1, size=draws.shape)
    actual = over_permuted(draws[:, 0], draws[:, 1:], draws=999)
    wrong = int((actual.p <= 0.05).sum())
    assert binomtest(wrong, cells, 0.05).pvalue > 0.001
    # In the test over images alone, many differences of arbitrary probes are significant.
    assert (paired_difference(draws[:, 0], draws[:, 1:].mean(1), draws=999).p <= 0.05).mean() > 0.3


def test_equal_probes_are_not_significant() -> None:
    same = np.full((1, 12), 0.4)
    actual = over_permuted(same, np.repeat(same[:, None], 5, axis=1), draws=99)
    assert actual.p[0] == 1.0
    assert actual.mean[0] == pytest.approx(0.0, abs=1e-12)


def test_scores_that_differ_by_rounding_are_equal() -> None:
    scores = np.random.default_rng(5).uniform(size=(1, 300))
    draws = np.repeat(scores[:, None], 5, axis=1)
    assert (draws.mean(1) != scores).any()
    actual = over_permuted(scores, draws)
    assert (actual.mean[0], actual.p[0]) == (0.0, 1.0)


def test_all_baselines_must_be_exceeded() -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal([[0.5], [0.5], [-0.5]], 1.0, (3, 80))
    weak, strong = np.zeros(80), np.full(80, 0.45)
    first, second = paired_difference(scores, weak), paired_difference(scores, strong)
    actual = over_strongest([first, second])
    assert np.array_equal(actual.mean, np.minimum(first.mean, second.mean))
    assert np.array_equal(actual.p, np.maximum(first.p, second.p))
    assert np.array_equal(actual.low, second.low)
    assert first.p[0] < 0.05 < actual.p[0]
