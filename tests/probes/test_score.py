"""Every metric from block statistics against the same metric on pixels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datasets.grid import Grid
from probes import score
from probes.blocks import Blocks
from probes.score import Metric

MASKS = (score.DICE, score.DICE_BACKGROUND, score.AVERAGE_PRECISION)
MAPS = (score.RMSE, score.RMSE_ALIGNED, score.PEARSON, score.SPEARMAN)
named = pytest.mark.parametrize("metric", [*MASKS, *MAPS], ids=lambda metric: metric.name)
GRIDS = st.sampled_from([(2, 4, 4), (2, 2, 2), (2, 4, 6), (3, 9, 9), (4, 8, 8), (1, 3, 3)])


@st.composite
def cases(draw: st.DrawFn, mask: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(predictions p n 1 t, target n 1 h w, threshold p), with many ties or with none."""
    side, h, w = draw(GRIDS)
    p, n = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    prediction = draw(arrays(np.int8, (p, n, 1, side * side), elements=st.integers(-2, 2))) / 4
    target = (
        draw(
            arrays(
                np.int8, (n, 1, h, w), elements=st.integers(0, 1) if mask else st.integers(-3, 3)
            )
        )
        / 1.0
    )
    if draw(st.booleans()):
        prediction = prediction + rng.normal(size=prediction.shape)
    if not mask and draw(st.booleans()):
        target = target + rng.normal(size=target.shape)
    return prediction, target, draw(arrays(np.int8, p, elements=st.integers(-2, 2))) / 4


def assert_equal_to_pixels(
    metric: Metric,
    pixels: SimpleNamespace,
    prediction: np.ndarray,
    target: np.ndarray,
    threshold: np.ndarray,
) -> None:
    side = round(prediction.shape[-1] ** 0.5)
    blocks = Blocks(torch.from_numpy(target), Grid(side, side))
    actual = metric.compute(torch.from_numpy(prediction), blocks, torch.from_numpy(threshold))
    full = pixels.upsampled(prediction, *target.shape[-2:])
    flat = slice(None) if metric is score.COSINE else 0
    expected = [
        [
            pixels.metrics[metric.name](full[p, n, flat], target[n, flat], threshold[p])
            for n in range(len(target))
        ]
        for p in range(len(prediction))
    ]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("metric", MASKS, ids=lambda metric: metric.name)
@given(case=cases(mask=True))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_mask_metrics_equal_the_pixel_level_ones(
    metric: Metric, pixels: SimpleNamespace, case: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    assert_equal_to_pixels(metric, pixels, *case)


@pytest.mark.parametrize("metric", MAPS, ids=lambda metric: metric.name)
@given(case=cases(mask=False))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_map_metrics_equal_the_pixel_level_ones(
    metric: Metric, pixels: SimpleNamespace, case: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    assert_equal_to_pixels(metric, pixels, *case)


@named
def test_metrics_agree_on_larger_images(metric: Metric, pixels: SimpleNamespace) -> None:
    rng = np.random.default_rng(3)
    target = rng.normal(size=(3, 1, 64, 64))
    if metric in MASKS:
        target = (target > 1).astype(np.float64)
    prediction = rng.normal(size=(4, 3, 1, 16 * 16))
    prediction[1] = prediction[1].round(1)
    assert_equal_to_pixels(metric, pixels, prediction, target, np.full(4, 0.3))


@pytest.mark.parametrize("metric", MASKS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["empty", "full"])
@pytest.mark.parametrize("level", [-1.0, 0.5, 2.0])
def test_empty_and_full_masks_and_predictions(
    metric: Metric, pixels: SimpleNamespace, fill: float, level: float
) -> None:
    prediction = np.full((1, 1, 1, 16), level)
    assert_equal_to_pixels(metric, pixels, prediction, np.full((1, 1, 8, 8), fill), np.array([0.5]))


def test_dice_of_two_empty_masks_is_one() -> None:
    nothing, none = torch.zeros(1, 1, 1, 4), torch.tensor([0.5])
    empty, full = (
        Blocks(torch.zeros(1, 1, 4, 4), Grid(2, 2)),
        Blocks(torch.ones(1, 1, 4, 4), Grid(2, 2)),
    )
    assert score.dice_foreground(nothing, empty, none).item() == 1.0
    assert score.dice_foreground(nothing, full, none).item() == 0.0
    assert score.dice_background(nothing, empty, none).item() == 1.0
    assert score.dice_background(nothing + 1, full, none).item() == 1.0


def test_a_prediction_at_the_threshold_is_background() -> None:
    blocks = Blocks(torch.ones(1, 1, 2, 2), Grid(1, 1))
    at = torch.full((1, 1, 1, 1), 0.5)
    assert score.dice_foreground(at, blocks, torch.tensor([0.5])).item() == 0.0
    assert score.dice_foreground(at, blocks, torch.tensor([0.49])).item() == 1.0


def test_average_precision_needs_a_positive() -> None:
    prediction = torch.from_numpy(np.random.default_rng(4).normal(size=(1, 1, 1, 4)))
    assert (
        score.average_precision(
            prediction, Blocks(torch.zeros(1, 1, 4, 4), Grid(2, 2)), torch.zeros(1)
        )
        .isnan()
        .all()
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1, -1e6 / 3])
@pytest.mark.parametrize("metric", [score.PEARSON, score.SPEARMAN], ids=lambda metric: metric.name)
def test_correlation_with_a_constant_prediction_is_undefined(metric: Metric, value: float) -> None:
    rng = np.random.default_rng(5)
    prediction = torch.full((1, 6, 1, 49), value, dtype=torch.float64)
    blocks = Blocks(torch.from_numpy(rng.normal(size=(6, 1, 14, 14))), Grid(7, 7))
    assert metric.compute(prediction, blocks, torch.zeros(1)).isnan().all()


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1000.1, -1e6 / 3])
@pytest.mark.parametrize("metric", [score.PEARSON, score.SPEARMAN], ids=lambda metric: metric.name)
def test_correlation_with_a_constant_target_is_undefined(metric: Metric, value: float) -> None:
    rng = np.random.default_rng(6)
    prediction = torch.from_numpy(rng.normal(size=(3, 6, 1, 49)))
    blocks = Blocks(torch.full((6, 1, 14, 14), value, dtype=torch.float64), Grid(7, 7))
    assert metric.compute(prediction, blocks, torch.zeros(3)).isnan().all()


@pytest.mark.parametrize("metric", [score.PEARSON, score.SPEARMAN], ids=lambda metric: metric.name)
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
def test_correlation_ignores_the_scale_of_the_prediction(
    metric: Metric, pixels: SimpleNamespace, scale: float
) -> None:
    rng = np.random.default_rng(7)
    prediction, target = rng.normal(size=(2, 2, 1, 16)), rng.normal(size=(2, 1, 8, 8))
    plain = metric.compute(
        torch.from_numpy(prediction), Blocks(torch.from_numpy(target), Grid(4, 4)), torch.zeros(2)
    )
    assert_equal_to_pixels(metric, pixels, prediction * scale, target, np.zeros(2))
    scaled = metric.compute(
        torch.from_numpy(prediction * scale),
        Blocks(torch.from_numpy(target), Grid(4, 4)),
        torch.zeros(2),
    )
    torch.testing.assert_close(scaled, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", MAPS, ids=lambda metric: metric.name)
def test_metrics_are_exact_for_a_mean_far_from_zero(
    metric: Metric, pixels: SimpleNamespace
) -> None:
    rng = np.random.default_rng(8)
    target = rng.normal(size=(2, 1, 8, 8)) + 100
    prediction = rng.normal(size=(2, 2, 1, 16)) + 100
    assert_equal_to_pixels(metric, pixels, prediction, target, np.zeros(2))


def test_a_perfect_prediction_of_whole_blocks_has_no_error(pixels: SimpleNamespace) -> None:
    tokens = np.random.default_rng(12).normal(size=(4, 1, 16)) + 3
    blocks = Blocks(torch.from_numpy(pixels.upsampled(tokens, 12, 12)), Grid(4, 4))
    assert score.rmse(torch.from_numpy(tokens)[None], blocks, torch.zeros(1)).max() < 1e-9


def test_a_prediction_perfect_up_to_scale_and_shift_has_no_aligned_error(
    pixels: SimpleNamespace,
) -> None:
    tokens = np.random.default_rng(13).normal(size=(4, 1, 16))
    blocks = Blocks(torch.from_numpy(pixels.upsampled(tokens, 12, 12)), Grid(4, 4))
    assert (
        score.rmse_aligned(torch.from_numpy(7 - 3 * tokens)[None], blocks, torch.zeros(1)).max()
        < 1e-9
    )


def test_a_perfect_prediction_has_no_error() -> None:
    rng = np.random.default_rng(9)
    target = torch.from_numpy(rng.normal(size=(3, 1, 8, 8)))
    blocks, perfect = Blocks(target, Grid(8, 8)), target.flatten(2)[None]
    assert score.rmse(perfect, blocks, torch.zeros(1)).max() < 1e-9
    assert (score.pearson(perfect, blocks, torch.zeros(1)) > 1 - 1e-12).all()
    assert (score.spearman(perfect, blocks, torch.zeros(1)) > 1 - 1e-12).all()


def test_cosine_and_rmse_of_vectors_equal_the_pixel_level_ones(pixels: SimpleNamespace) -> None:
    rng = np.random.default_rng(10)
    target = rng.normal(size=(3, 3, 8, 8))
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    prediction = rng.normal(size=(2, 3, 3, 16))
    assert_equal_to_pixels(score.COSINE, pixels, prediction, target, np.zeros(2))
    actual = score.rmse(
        torch.from_numpy(prediction), Blocks(torch.from_numpy(target), Grid(4, 4)), torch.zeros(2)
    )
    full = pixels.upsampled(prediction, 8, 8)
    np.testing.assert_allclose(
        actual, np.sqrt(((full - target[None]) ** 2).mean((2, 3, 4))), rtol=1e-9
    )


@named
def test_direction_of_better_is_right(metric: Metric) -> None:
    rng = np.random.default_rng(11)
    truth = rng.normal(size=(1, 1, 8, 8))
    target = torch.from_numpy((truth > 0).astype(np.float64) if metric in MASKS else truth)
    good = target.flatten(2)[None]
    bad = torch.from_numpy(rng.normal(size=(1, 1, 1, 64)))
    both = metric.compute(torch.cat([good, bad]), Blocks(target, Grid(8, 8)), torch.full((2,), 0.5))
    assert bool(both[0, 0] > both[1, 0]) is metric.higher_is_better
