"""Intervals and tests agree at every number of images, and reject the null as often as they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from probes.bootstrap import Difference, effect_of, effects, intervals, paired_difference
from probes.multiple_testing import over_permuted, over_strongest

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
NULLS: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy tails": lambda rng, size: rng.exponential(size=size) - rng.exponential(size=size),
    "skewed": lambda rng, size: rng.gamma(4.0, size=size) - 4.0,
    "exponential": lambda rng, size: rng.exponential(size=size) - 1.0,
    "skewed to the left": lambda rng, size: rng.beta(8.0, 1.5, size=size) - 8.0 / 9.5,
    "very skewed": lambda rng, size: rng.lognormal(size=size) - np.exp(0.5),
    "heavier tails": lambda rng, size: rng.lognormal(size=size) - rng.lognormal(size=size),
    "tied": lambda rng, size: rng.integers(-1, 2, size=size) / 4.0,
    "two values": lambda rng, size: rng.integers(0, 2, size=size) * 2.0 - 1.0,
    "mostly zero": lambda rng, size: (rng.random(size) < 0.3) * rng.choice([-1.0, 1.0], size),
}
"""Scores of mean zero."""
FEW, MANY = (2, 3, 4, 5, 6, 7, 8, 12), (30, 100, 371)


def leaves_out_zero(found: Difference) -> NDArray[np.bool_]:
    return (found.low > 0) | (found.high < 0)


def check(kind: str, images: int, rows: int, draws: int) -> None:
    scores = NULLS[kind](np.random.default_rng([images, rows]), (rows, images))
    found = paired_difference(scores, np.zeros(images), draws)
    assert np.array_equal(leaves_out_zero(found), found.p <= 0.05)
    _, most = binom.interval(0.999, rows, 0.05)
    assert (found.p <= 0.05).sum() <= most


@pytest.mark.parametrize("images", [*FEW, *MANY])
@pytest.mark.parametrize("kind", NULLS)
def test_null_data(kind: str, images: int) -> None:
    check(kind, images, rows=2000, draws=999)


@pytest.mark.slow
@pytest.mark.parametrize("images", range(2, 41))
@pytest.mark.parametrize("kind", [kind for kind in NULLS if kind != "very skewed"])
def test_null_data_at_length(kind: str, images: int) -> None:
    check(kind, images, rows=10_000, draws=1999)


@pytest.mark.parametrize("images", FEW)
@pytest.mark.parametrize("kind", NULLS)
def test_effects_of_any_size_agree_too(kind: str, images: int) -> None:
    rng = np.random.default_rng(images)
    scores = NULLS[kind](rng, (210, images)) + np.linspace(-3, 3, 210)[:, None]
    scores[::7, 0] = np.nan
    for level in (0.5, 0.9, 0.95, 0.99):
        for draws in (10, 99, 500):
            found = effects(scores, draws, level=level)
            assert np.array_equal(leaves_out_zero(found), found.p <= (1 - level) * (1 + 1e-12))
            defined = np.isfinite(found.p)
            assert np.array_equal(defined, np.isfinite(found.low))
            assert ((found.low <= found.mean) & (found.mean <= found.high))[defined].all()


@pytest.mark.parametrize("images", range(2, 13))
def test_equal_scores_are_no_more_certain_than_their_signs(images: int) -> None:
    found = paired_difference(np.full((1, images), 0.3), np.zeros(images))
    assert found.p[0] == max(0.5 ** (images - 1), 1e-4)
    assert (found.low[0], found.high[0]) == ((0.0 if images < 6 else 0.3), 0.3)


def test_scores_of_few_images_keep_their_range() -> None:
    found = intervals(np.array([[0.7, 0.9]]))
    assert (found.low[0], found.high[0]) == (0.7, 0.9)
    effect = effect_of(np.array([0.7, 0.9]))
    assert (effect.low, effect.high) == (0.0, 0.9)


@pytest.mark.parametrize("images", [4, 6, 12, 40])
def test_a_gain_over_permuted_labels_agrees_with_its_test(images: int) -> None:
    rng = np.random.default_rng(images)
    scores = rng.normal(np.linspace(-2, 2, 400)[:, None], 1.0, (400, images))
    found = over_permuted(scores, rng.normal(0, 0.5, (400, 5, images)), draws=999)
    assert np.array_equal(leaves_out_zero(found), found.p <= 0.05)


@pytest.mark.parametrize("images", [4, 6, 12, 40])
def test_a_gain_over_the_strongest_agrees_with_its_test(images: int) -> None:
    rng = np.random.default_rng(images)
    scores = rng.normal(np.linspace(-2, 2, 400)[:, None], 1.0, (400, images))
    baselines = (np.zeros(images), rng.normal(0, 2.0, (400, images)))
    found = over_strongest([paired_difference(scores, other, 999) for other in baselines])
    assert np.array_equal(leaves_out_zero(found), found.p <= 0.05)
