"""Differences between groups of networks: the spread over seeds widens their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from bench.across.seeds import NO_SPREAD, Spread, group_difference, spread_of
from probes.bootstrap import paired_difference


def test_the_spread_pools_groups_of_two_or_more() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(count, 50)) for count in (2, 1, 3)]
    spread = spread_of(groups)
    first, third = groups[0].mean(1), groups[2].mean(1)
    expected = (np.var(first, ddof=1) * 1 + np.var(third, ddof=1) * 2) / 3
    assert spread.freedom == 3
    assert spread.variance == pytest.approx(expected)
    assert spread_of(groups[1:2]).freedom == 0


def test_an_image_without_a_score_is_left_out_of_the_spread_of_its_group() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(2, 50)) for _ in range(3)]
    whole = [group[:, 1:] if number == 1 else group for number, group in enumerate(groups)]
    groups[1][0, 0] = np.nan
    spread = spread_of(groups)
    assert spread == spread_of(whole)
    found = group_difference(groups[0], groups[1], spread)
    assert found.over_seeds
    assert np.isfinite([found.value.mean, found.value.low, found.value.high, found.p]).all()


def test_without_a_spread_networks_are_compared_over_images_alone() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.1, 1, (1, 60)), rng.normal(size=(1, 60))
    found = group_difference(first, second, NO_SPREAD)
    paired = paired_difference(first, second)
    assert not found.over_seeds
    assert (found.value.mean, found.value.low, found.value.high, found.p) == (
        paired.mean[0],
        paired.low[0],
        paired.high[0],
        paired.p[0],
    )


def test_every_network_of_both_groups_adds_to_the_spread() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=400)
    first = image + rng.normal(0.2, 1e-6, (2, 400))
    spread = Spread(0.04, 2)
    one, two = (
        group_difference(first, image + rng.normal(0, 1e-6, (count, 400)), spread)
        for count in (1, 2)
    )
    # Images agree to 1e-6, so that only seeds are left: sd 0.2 with two degrees of freedom.
    for found, variance in ((one, 0.04 * 1.5), (two, 0.04)):
        reach = t.ppf(0.975, 2) * variance**0.5
        assert found.over_seeds
        assert found.value.high - found.value.mean == pytest.approx(reach, rel=1e-6)
        assert found.p == pytest.approx(2 * t.sf(0.2 / variance**0.5, 2), rel=1e-4)


def rejections(over_seeds: bool) -> float:
    """How often two groups of two networks are told apart that differ by their seeds alone."""
    rng = np.random.default_rng(0)
    count, tries = 0, 300
    for _ in range(tries):
        image = rng.normal(size=200)
        groups = [
            image + rng.normal(0, 0.3, (2, 1)) + rng.normal(0, 0.5, (2, 200)) for _ in range(2)
        ]
        spread = spread_of(groups) if over_seeds else NO_SPREAD
        count += group_difference(*groups, spread).p <= 0.05
    return count / tries


def test_groups_that_differ_by_their_seeds_alone_are_seldom_told_apart() -> None:
    assert rejections(over_seeds=True) < 0.08
    assert rejections(over_seeds=False) > 0.5
