import numpy as np
import pytest
from scipy.stats import binom

from probes.bootstrap import intervals, paired_difference, resampled_means, resampling_weights


def test_weights_draw_as_many_pictures_as_there_are() -> None:
    weights = resampling_weights(30, draws=4000, seed=1)
    assert weights.shape == (4000, 30)
    assert (weights.sum(1) == 30).all()
    assert np.abs(weights.mean(0) - 1).max() < 5 * np.sqrt((1 - 1 / 30) / 4000)
    assert np.array_equal(weights, resampling_weights(30, draws=4000, seed=1))
    assert not np.array_equal(weights, resampling_weights(30, draws=4000, seed=2))


def test_interval_equals_the_obvious_loop() -> None:
    rng = np.random.default_rng(0)
    scores = rng.gamma(2.0, size=(3, 25))
    weights = resampling_weights(25, draws=500, seed=4)
    found = intervals(scores, draws=500, seed=4, level=0.9)
    for row in range(3):
        means = [np.mean(np.repeat(scores[row], weight.astype(int))) for weight in weights]
        assert found.mean[row] == pytest.approx(scores[row].mean(), rel=1e-12)
        assert found.low[row] == pytest.approx(np.percentile(means, 5), rel=1e-12)
        assert found.high[row] == pytest.approx(np.percentile(means, 95), rel=1e-12)


def test_undefined_scores_are_left_out_draw_by_draw() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(2, 20))
    scores[0, [3, 11]] = np.nan
    scores[1, :12] = np.nan
    weights = resampling_weights(20, draws=300, seed=0)
    means = resampled_means(scores, weights)
    found = intervals(scores, draws=300)
    for row in range(2):
        expected = [np.nanmean(np.repeat(scores[row], weight.astype(int))) for weight in weights]
        np.testing.assert_allclose(means[row], expected, rtol=1e-12)
        assert found.mean[row] == pytest.approx(np.nanmean(scores[row]), rel=1e-12)
        assert found.low[row] == pytest.approx(np.quantile(expected, 0.025), rel=1e-12)
        assert found.high[row] == pytest.approx(np.quantile(expected, 0.975), rel=1e-12)


def test_a_cell_without_scores_is_nan_and_spoils_no_other() -> None:
    scores = np.random.default_rng(2).normal(size=(3, 15))
    alone = intervals(scores[[0, 2]])
    scores[1] = np.nan
    found = intervals(scores)
    assert np.isnan([found.mean[1], found.low[1], found.high[1]]).all()
    for field in ("mean", "low", "high"):
        assert np.array_equal(getattr(found, field)[[0, 2]], getattr(alone, field))


def test_many_cells_equal_few() -> None:
    scores = np.random.default_rng(3).normal(size=(1100, 12))
    found = intervals(scores, draws=50)
    for row in (0, 511, 512, 1023, 1024, 1099):
        alone = intervals(scores[[row]], draws=50)
        np.testing.assert_allclose(
            [found.mean[row], found.low[row], found.high[row]], [alone.mean[0], alone.low[0], alone.high[0]], rtol=1e-12
        )


def test_intervals_cover_the_truth_as_often_as_they_claim() -> None:
    repeats = 200
    scores = np.random.default_rng(4).normal(0.3, 1.0, size=(repeats, 100))
    for level in (0.95, 0.5):
        found = intervals(scores, level=level)
        covered = int(((found.low <= 0.3) & (found.high >= 0.3)).sum())
        least, most = binom.interval(0.999, repeats, level)
        assert least <= covered <= most


def test_the_interval_has_the_width_of_the_central_limit_theorem() -> None:
    scores = np.random.default_rng(5).normal(size=(1, 400))
    found = intervals(scores)
    expected = 2 * 1.96 * scores.std() / 20
    assert found.high[0] - found.low[0] == pytest.approx(expected, rel=0.08)


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


def test_a_difference_is_that_of_the_rows_means_in_every_draw() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(4, 18)), rng.normal(size=(4, 18))
    found = paired_difference(a, b, draws=200, seed=3)
    weights = resampling_weights(18, draws=200, seed=3)
    gaps = resampled_means(a, weights) - resampled_means(b, weights)
    np.testing.assert_allclose(found.low, np.quantile(gaps, 0.025, axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.high, np.quantile(gaps, 0.975, axis=1), rtol=1e-9)


def test_a_picture_undefined_on_one_side_is_left_out_of_the_pair() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=18), rng.normal(size=18)
    a[2], b[5] = np.nan, np.nan
    assert paired_difference(a, b).mean[0] == pytest.approx(np.nanmean(a - b), rel=1e-12)
