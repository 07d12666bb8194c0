"""Intervals and p-values against explicit loops, coverage and Student's t."""

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from probes.bootstrap import (
    effects,
    intervals,
    paired_difference,
    resampled_means,
    resampling_weights,
)


def test_weights_draw_as_many_images_as_there_are() -> None:
    weights = resampling_weights(30, draws=4000, seed=1)
    assert weights.shape == (4000, 30)
    assert (weights.sum(1) == 30).all()
    assert np.abs(weights.mean(0) - 1).max() < 5 * np.sqrt((1 - 1 / 30) / 4000)
    assert np.array_equal(weights, resampling_weights(30, draws=4000, seed=1))
    assert not np.array_equal(weights, resampling_weights(30, draws=4000, seed=2))


def loop(scores: np.ndarray, weights: np.ndarray, level: float) -> tuple[float, float, float]:
    """(low, high, p) of one row, draw by draw."""
    scores, weights = scores[np.isfinite(scores)], weights[:, np.isfinite(scores)].astype(int)
    mean, error = scores.mean(), scores.std() / np.sqrt(len(scores))
    samples = [np.repeat(scores, weight) for weight in weights]
    t = sorted(
        abs(sample.mean() - mean) / (sample.std() / np.sqrt(len(sample))) for sample in samples
    )
    c = t[int(np.ceil(level * (len(t) + 1))) - 1]
    low, high = max(mean - c * error, scores.min()), min(mean + c * error, scores.max())
    return low, high, (1 + sum(draw >= abs(mean) / error for draw in t)) / (len(t) + 1)


def loop_of_few(
    scores: np.ndarray, weights: np.ndarray, level: float
) -> tuple[float, float, float]:
    """The same, with the wider of equal tails and the margin for few; the range includes zero."""
    scores, weights = scores[np.isfinite(scores)], weights[:, np.isfinite(scores)].astype(int)
    n = len(scores)
    mean, error = scores.mean(), (1 + 4 / n) * scores.std() / np.sqrt(n)
    samples = [np.repeat(scores, weight) for weight in weights]
    t = sorted((x.mean() - mean) / (x.std() / np.sqrt(len(x))) for x in samples)
    c = sorted(map(abs, t))[int(np.ceil(level * (len(t) + 1))) - 1]
    rank = int(np.ceil((1 + level) / 2 * (len(t) + 1)))
    low = max(mean - max(c, t[rank - 1]) * error, min(scores.min(), 0.0))
    high = min(mean + max(c, -t[-rank]) * error, max(scores.max(), 0.0))
    observed = mean / error
    tail = min(sum(draw >= observed for draw in t), sum(draw <= observed for draw in t))
    both = sum(abs(draw) >= abs(observed) for draw in t)
    return low, high, min(1.0, max(2 * (1 + tail), 1 + both) / (len(t) + 1))


def test_interval_equals_an_explicit_loop() -> None:
    scores = np.random.default_rng(0).gamma(2.0, size=(3, 25))
    weights = resampling_weights(25, draws=500, seed=4)
    actual = intervals(scores, draws=500, seed=4, level=0.9)
    for row in range(3):
        low, high, _ = loop(scores[row], weights, 0.9)
        assert actual.mean[row] == pytest.approx(scores[row].mean(), rel=1e-12)
        assert actual.low[row] == pytest.approx(low, rel=1e-9)
        assert actual.high[row] == pytest.approx(high, rel=1e-9)


def test_undefined_scores_are_left_out_draw_by_draw() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(2, 20))
    scores[0, [3, 11]] = np.nan
    scores[1, :12] = np.nan
    weights = resampling_weights(20, draws=300, seed=0)
    means = resampled_means(scores, weights)
    actual = paired_difference(scores, np.zeros_like(scores), draws=300)
    for row in range(2):
        expected = [np.nanmean(np.repeat(scores[row], weight.astype(int))) for weight in weights]
        np.testing.assert_allclose(means[row], expected, rtol=1e-12)
        assert actual.mean[row] == pytest.approx(np.nanmean(scores[row]), rel=1e-12)
        assert (actual.low[row], actual.high[row], actual.p[row]) == pytest.approx(
            loop_of_few(scores[row], weights, 0.95)
        )


def test_effects_of_few_images_equal_an_explicit_loop() -> None:
    scores = np.random.default_rng(12).exponential(size=(6, 14)) - np.linspace(0.2, 1.8, 6)[:, None]
    weights = resampling_weights(14, draws=999, seed=0)
    actual = paired_difference(scores, np.zeros(14), draws=999)
    for row in range(6):
        assert (actual.low[row], actual.high[row], actual.p[row]) == pytest.approx(
            loop_of_few(scores[row], weights, 0.95)
        )


def test_effects_of_many_images_equal_an_explicit_loop() -> None:
    scores = np.random.default_rng(13).normal(0.05, 1.0, size=(3, 200))
    weights = resampling_weights(200, draws=500, seed=0)
    actual = paired_difference(scores, np.zeros(200), draws=500)
    for row in range(3):
        assert (actual.low[row], actual.high[row], actual.p[row]) == pytest.approx(
            loop(scores[row], weights, 0.95)
        )


def test_a_cell_without_scores_is_nan_and_changes_no_other() -> None:
    scores = np.random.default_rng(2).normal(size=(3, 15))
    # The rounding of a matrix product depends on the number of rows, so it is kept.
    whole = intervals(scores)
    scores[1] = np.nan
    actual = intervals(scores)
    assert np.isnan([actual.mean[1], actual.low[1], actual.high[1]]).all()
    for field in ("mean", "low", "high"):
        assert np.array_equal(getattr(actual, field)[[0, 2]], getattr(whole, field)[[0, 2]])


def test_many_cells_equal_few() -> None:
    scores = np.random.default_rng(3).normal(size=(1100, 12))
    actual = intervals(scores, draws=50)
    for row in (0, 511, 512, 1023, 1024, 1099):
        alone = intervals(scores[[row]], draws=50)
        np.testing.assert_allclose(
            [actual.mean[row], actual.low[row], actual.high[row]],
            [alone.mean[0], alone.low[0], alone.high[0]],
            rtol=1e-12,
        )


def test_intervals_cover_the_truth_as_often_as_they_claim() -> None:
    repeats = 200
    scores = np.random.default_rng(4).normal(0.3, 1.0, size=(repeats, 100))
    for level in (0.95, 0.5):
        actual = intervals(scores, level=level)
        covered = int(((actual.low <= 0.3) & (actual.high >= 0.3)).sum())
        least, most = binom.interval(0.999, repeats, level)
        assert least <= covered <= most


def test_the_interval_has_the_width_of_the_central_limit_theorem() -> None:
    scores = np.random.default_rng(5).normal(size=(1, 400))
    actual = intervals(scores)
    expected = 2 * 1.96 * scores.std() / 20
    assert actual.high[0] - actual.low[0] == pytest.approx(expected, rel=0.08)


def test_pairing_tightens_differences_of_correlated_scores() -> None:
    rng = np.random.default_rng(6)
    shared = rng.normal(size=60)
    a, b = shared + 0.1 * rng.normal(size=60) + 0.2, shared + 0.1 * rng.normal(size=60)
    paired = paired_difference(a, b)
    weights_a, weights_b = resampling_weights(60, seed=1), resampling_weights(60, seed=2)
    apart = resampled_means(a[None], weights_a) - resampled_means(b[None], weights_b)
    low, high = np.quantile(apart, [0.025, 0.975])
    assert paired.high[0] - paired.low[0] < 0.3 * (high - low)
    assert 0 < paired.low[0] < (a - b).mean() < paired.high[0]
    assert paired.mean[0] == pytest.approx((a - b).mean(), rel=1e-12)


def test_the_interval_leaves_out_zero_exactly_where_p_is_at_most_five_percent() -> None:
    scores = (
        np.random.default_rng(7).exponential(size=(400, 30)) - np.linspace(0.5, 1.5, 400)[:, None]
    )
    for draws in (500, 999, 2000):
        actual = paired_difference(scores, np.zeros(30), draws=draws)
        outside = (actual.low > 0) | (actual.high < 0)
        assert 20 < outside.sum() < 380
        assert np.array_equal(outside, actual.p <= 0.05)
        assert actual.p.min() >= 1 / (draws + 1)


def test_p_is_that_of_students_t_on_normal_scores() -> None:
    scores = np.random.default_rng(9).normal(0.1, 1.0, size=(40, 300))
    actual, expected = (
        paired_difference(scores, np.zeros(300)).p,
        ttest_1samp(scores, 0.0, axis=1).pvalue,
    )
    assert np.abs(actual - expected).max() < 0.02


def test_rows_without_spread_are_certain() -> None:
    scores = np.array([np.full(12, 0.3), np.zeros(12)])
    actual = paired_difference(scores, np.zeros(12), draws=99)
    assert np.array_equal(actual.low, actual.mean)
    assert np.array_equal(actual.high, actual.mean)
    assert actual.p.tolist() == [0.02, 1.0]


def test_an_interval_stays_among_scores_where_draws_are_constant() -> None:
    tied = np.full((1, 10), 0.75)
    tied[0, 0] = 0.25
    actual = intervals(tied)
    assert (actual.low[0], actual.high[0]) == (0.25, 0.75)
    assert paired_difference(tied, np.zeros(10)).p[0] > 0.3


def test_a_share_of_nearly_all_images_has_the_exact_interval_of_a_proportion() -> None:
    correct = np.ones((3, 371))
    correct[0, 7] = correct[1, :90] = correct[1, 200] = np.nan
    correct[0, 0] = correct[1, 300] = 0.0
    actual = intervals(correct)
    for row, count in ((0, 370), (1, 280)):
        # At its ends, 2.5 % of all samples are as far from the share as this one.
        low, high = actual.low[row], actual.high[row]
        assert binom.sf(count - 2, count, low) == pytest.approx(0.025)
        assert binom.cdf(count - 1, count, high) == pytest.approx(0.025)
    assert (actual.low[2], actual.high[2]) == (1.0, 1.0)


def test_few_unequal_pairs_leave_both_signs_open() -> None:
    gap = np.zeros((2, 60))
    gap[:, :2] = [[1.0, 1.0], [1.0, -1.0]]
    actual = effects(gap)
    # Two intervals of proportions at 97.5 %.
    least_of_two = next(p for p in np.arange(0, 1, 1e-5) if binom.sf(1, 60, p) >= 0.0125)
    most_of_none = 1 - 0.0125 ** (1 / 60)
    assert actual.low[0] == pytest.approx(least_of_two - most_of_none, abs=1e-4)
    assert actual.low[0] < 0 < actual.high[0] < 0.15
    assert actual.low[1] == pytest.approx(-actual.high[1])
    assert (actual.p > 0.05).all()
    for images in (20, 60, 150, 371):
        gap = np.zeros((3, images))
        for row, ones in enumerate((1, 2, 3)):
            gap[row, :ones] = 1.0
        actual = effects(gap)
        assert (actual.low < 0).all()
        assert (actual.high < 0.5).all()


def test_skewed_scores_are_covered_as_often_as_claimed() -> None:
    repeats = 2000
    scores = np.random.default_rng(10).lognormal(size=(repeats, 371))
    actual = intervals(scores)
    missed = ((actual.low > np.exp(0.5)) | (actual.high < np.exp(0.5))).mean()
    # Intervals from quantiles of resampled means miss 7 % of these.
    assert 0.04 < missed < 0.066


def test_an_image_undefined_on_one_side_is_left_out_of_the_pair() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=18), rng.normal(size=18)
    a[2], b[5] = np.nan, np.nan
    assert paired_difference(a, b).mean[0] == pytest.approx(np.nanmean(a - b), rel=1e-12)


def test_one_image_has_a_mean_and_neither_interval_nor_test() -> None:
    actual = paired_difference(np.array([[1.0], [0.5]]), np.array([[0.9], [np.nan]]))
    np.testing.assert_allclose(actual.mean, [0.1, np.nan])
    assert np.isnan([actual.low, actual.high, actual.p]).all()


@pytest.mark.parametrize("count", [3, 4])
def test_few_defined_scores_have_the_interval_of_those_alone(count: int) -> None:
    """Some draws of all images have no defined score among them."""
    scores = np.random.default_rng(count).normal(1, 1, (1, 3 * count))
    scores[0, count:] = np.nan
    for procedure in (intervals, effects):
        whole, alone = procedure(scores), procedure(scores[:, :count])
        assert np.isfinite([whole.low[0], whole.high[0]]).all()
        assert (whole.low[0], whole.high[0]) == (alone.low[0], alone.high[0])
    assert effects(scores).p[0] == effects(scores[:, :count]).p[0]
