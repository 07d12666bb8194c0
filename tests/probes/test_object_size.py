"""Terciles of the object's area and their scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from probes.object_size import by_area, terciles


@pytest.mark.parametrize("images", [3, 7, 8, 9, 72])
def test_terciles_are_thirds_in_the_order_of_area(images: int) -> None:
    area = np.random.default_rng(images).random(images)
    number = terciles(area)
    sizes = np.bincount(number, minlength=3)
    assert sizes.sum() == images
    assert sizes.max() - sizes.min() <= 1
    for low, high in ((0, 1), (1, 2)):
        assert area[number == low].max() < area[number == high].min()


def test_images_of_one_area_are_still_cut_in_three() -> None:
    assert np.bincount(terciles(np.full(9, 0.1))).tolist() == [3, 3, 3]
    assert terciles(np.array([])).tolist() == []


def test_scores_are_summarised_within_each_tercile() -> None:
    rng = np.random.default_rng(0)
    area, scores = rng.random(31), rng.random((4, 31))
    scores[2, 5] = np.nan
    summaries = by_area(scores, area)
    assert [tercile.name for tercile in summaries] == ["small", "medium", "large"]
    assert sum(tercile.images for tercile in summaries) == 31
    for tercile in summaries:
        members = (area >= tercile.low_area) & (area <= tercile.high_area)
        assert members.sum() == tercile.images
        np.testing.assert_allclose(tercile.scores.mean, np.nanmean(scores[:, members], axis=1))
        assert (tercile.scores.low <= tercile.scores.mean).all()


def test_scores_that_follow_the_area_differ_between_terciles() -> None:
    area = np.random.default_rng(1).random(60)
    summaries = by_area(area[None], area)
    assert summaries[0].scores.high[0] < summaries[1].scores.low[0] < summaries[2].scores.low[0]
    assert pearsonr(area, terciles(area)).statistic > 0.9


def test_fewer_than_three_images_leave_terciles_out() -> None:
    assert [tercile.images for tercile in by_area(np.ones((1, 2)), np.array([0.2, 0.1]))] == [1, 1]
