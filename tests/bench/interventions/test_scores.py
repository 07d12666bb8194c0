"""Shifts, moved labels and scores of interventions equal plain loops over pixels."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from sklearn.metrics import f1_score

from bench.interventions.path import centres, offsets_along
from bench.interventions.reference import Reference, columns
from bench.interventions.shifts import INSIDE, draw_offsets, moved
from datasets.labels import Labels
from probes.tasks.depth import TASK as DEPTH
from probes.tasks.saliency import TASK as SALIENCY

SIDE = 64


def disc(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns_ = np.mgrid[:SIDE, :SIDE]
    return (rows - row) ** 2 + (columns_ - column) ** 2 <= radius**2


def labels_of(masks: list[np.ndarray], seed: int = 0) -> Labels:
    draw = torch.Generator().manual_seed(seed)
    n = len(masks)
    return Labels(
        torch.randn(n, SIDE, SIDE, generator=draw),
        torch.from_numpy(np.stack(masks)),
        torch.randn(n, 3, SIDE, SIDE, generator=draw),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(-20, 20), st.integers(-20, 20))
def test_moved_labels_are_the_obvious_ones(down: int, right: int) -> None:
    before = labels_of([disc(30, 34, 9), disc(8, 60, 7)])
    after = moved(before, [(down, right), (0, 0)])
    for row in range(0, SIDE, 7):
        for column in range(0, SIDE, 7):
            from_row, from_column = row - down, column - right
            inside = 0 <= from_row < SIDE and 0 <= from_column < SIDE
            at = min(max(from_row, 0), SIDE - 1), min(max(from_column, 0), SIDE - 1)
            assert bool(after.saliency[0, row, column]) == (inside and bool(before.saliency[0][at]))
            assert after.disparity[0, row, column] == before.disparity[0][at]
            assert torch.equal(after.normals[0, :, row, column], before.normals[0][:, at[0], at[1]])
    assert torch.equal(after.saliency[1], before.saliency[1])
    assert torch.equal(after.disparity[1], before.disparity[1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 63), st.integers(0, 63), st.integers(4, 16), st.integers(0, 2**31))
def test_shifts_keep_most_of_the_object_inside_and_belong_to_the_item(
    row: int, column: int, radius: int, seed: int
) -> None:
    mask = disc(row, column, radius)
    drawn = draw_offsets(torch.from_numpy(mask), seed, 5)
    assert drawn == draw_offsets(torch.from_numpy(mask), seed, 5)
    assert len(set(drawn)) == len(drawn)
    assert len(drawn) in (0, 5)
    for down, right in drawn:
        assert 11 <= abs(down) <= 15
        assert 11 <= abs(right) <= 15
        after = moved(labels_of([mask]), [(down, right)]).saliency.sum()
        assert int(after) >= INSIDE * mask.sum()


def test_an_object_that_fills_the_image_cannot_be_moved() -> None:
    assert draw_offsets(torch.ones(SIDE, SIDE, dtype=torch.bool), 0, 1) == ()
    assert draw_offsets(torch.zeros(SIDE, SIDE, dtype=torch.bool), 0, 1) == ()


def test_scores_are_the_obvious_ones() -> None:
    before, shifts = labels_of([disc(30, 30, 9), disc(40, 20, 6)]), [(12, -11), (-13, 14)]
    target = moved(before, shifts)
    draw = torch.Generator().manual_seed(3)
    images, output = (torch.rand(2, 3, SIDE, SIDE, generator=draw) for _ in range(2))
    after = labels_of([disc(40, 22, 8), disc(30, 30, 9)], seed=1)
    table = Reference(SALIENCY, images, before, target).scores(output, after, seconds=3.0)
    scores = dict(zip(columns(SALIENCY), table.T.numpy(), strict=True))
    for row in range(2):
        for name, truth in (("shifted", target), ("original", before)):
            expected = f1_score(truth.saliency[row].flatten(), after.saliency[row].flatten())
            assert np.isclose(scores[f"dice_{name}"][row], expected)
        union = (before.saliency[row] | target.saliency[row]).numpy()
        background = ~binary_dilation(union, np.ones((7, 7)))
        change = (output[row] - images[row]).abs().mean(0).numpy()
        assert np.isclose(scores["damage"][row], change[background].mean(), rtol=1e-5)
        area = after.saliency[row].sum() / before.saliency[row].sum()
        assert np.isclose(scores["area_ratio"][row], float(area))
        assert scores["seconds"][row] == 1.5


def test_depth_scores_are_the_obvious_ones() -> None:
    from scipy.stats import spearmanr

    before = labels_of([disc(30, 30, 9)])
    target, after = moved(before, [(12, 12)]), labels_of([disc(30, 30, 9)], seed=1)
    image = torch.rand(1, 3, SIDE, SIDE)
    table = Reference(DEPTH, image, before, target).scores(image, after, seconds=1.0)
    scores = dict(zip(columns(DEPTH), table[0].numpy(), strict=True))
    for name, truth in (("shifted", target), ("original", before)):
        x, y = after.disparity[0].flatten().double(), truth.disparity[0].flatten().double()
        assert np.isclose(scores[f"rmse_{name}"], float((x - y).square().mean().sqrt()))
        assert np.isclose(scores[f"spearman_{name}"], spearmanr(x, y).statistic)
    assert scores["damage"] == 0


def test_a_circle_closes_and_centres_are_means() -> None:
    offsets = offsets_along("circle", 16, SIDE, SIDE)
    assert len(set(offsets)) == 16
    assert np.allclose(np.mean(offsets, axis=0), 0)
    assert all(10 <= np.hypot(*offset) <= 13 for offset in offsets)
    masks = torch.from_numpy(np.stack([disc(20, 40, 5), np.zeros((SIDE, SIDE), dtype=bool)]))
    means = centres(masks)
    assert np.allclose(means[0], (20, 40))
    assert np.isnan(means[1]).all()
