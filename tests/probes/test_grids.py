"""Grids that are not square, against plain numpy, exact answers, and transposed data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import legval
from scipy.stats import rankdata
from torch import Tensor

from datasets.grid import Grid
from datasets.labels import Labels
from probes.accumulate import Accumulator
from probes.adam import block_loss, pixel_loss, target_blocks
from probes.blocks import Blocks, block_means
from probes.position import position_columns
from probes.probe_set import (
    ACTIVATIONS,
    CEILING,
    MEAN_MAP,
    POSITION,
    WITH_POSITION,
    Cell,
    ProbeSet,
    baseline_cell,
    probes_of,
    tensors_of,
    with_readings,
)
from probes.readout import Readout
from probes.solve import solve_probe_set
from probes.statistics import sums_of_tensors
from probes.task import Task
from probes.tasks.depth import TASK as DEPTH

GRID, SIZE, IMAGES, CHANNELS = Grid(2, 3), (6, 12), 12, 4
TASKS: dict[str, Task] = {"depth": DEPTH}
WEIGHTS = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=torch.float64)


def blocks_of(image: np.ndarray, grid: Grid) -> Iterator[np.ndarray]:
    h, w = image.shape[0] // grid.rows, image.shape[1] // grid.columns
    for row in range(grid.rows):
        for column in range(grid.columns):
            yield image[row * h : (row + 1) * h, column * w : (column + 1) * w]


@pytest.mark.parametrize("grid", [GRID, Grid(3, 2), Grid(1, 4), Grid(6, 12)])
def test_block_statistics_equal_those_of_pixels(grid: Grid) -> None:
    target = np.random.default_rng(0).integers(0, 9, (2, 3, *SIZE)).astype(float)
    blocks = Blocks(torch.from_numpy(target), grid)
    assert blocks.pixels == SIZE[0] * SIZE[1] // grid.tokens
    for n in range(2):
        for k in range(3):
            image = target[n, k]
            parts = list(blocks_of(image, grid))
            ranks = rankdata(image).reshape(image.shape)
            means = [part.mean() for part in parts]
            np.testing.assert_allclose(blocks.mean[n, k], means, rtol=1e-12)
            np.testing.assert_allclose(blocks.variance[n, k], [part.var() for part in parts])
            ranked = [part.mean() for part in blocks_of(ranks, grid)]
            np.testing.assert_allclose(blocks.rank[n, k], ranked, rtol=1e-12)


def test_maps_that_do_not_tile_are_refused() -> None:
    with pytest.raises(ValueError, match="a 6 x 12 map does not tile into 2 x 5 blocks"):
        block_means(torch.zeros(SIZE), Grid(2, 5))
    with pytest.raises(ValueError, match="a 6 x 12 map does not tile into 4 x 3 blocks"):
        block_means(torch.zeros(SIZE), Grid(4, 3))


@pytest.mark.parametrize("grid", [GRID, Grid(8, 12), Grid(5, 1)])
def test_position_columns_are_products_of_legendre_polynomials(grid: Grid) -> None:
    y, x = ((np.arange(count) + 0.5) / count * 2 - 1 for count in grid.shape)
    expected = [
        np.outer(legval(y, np.eye(5)[a]), legval(x, np.eye(5)[b])).ravel()
        for a in range(5)
        for b in range(5 - a)
        if a + b
    ]
    np.testing.assert_allclose(position_columns(grid).numpy().T, expected, atol=1e-12)


@pytest.mark.parametrize("is_mask", [True, False])
def test_the_published_loss_in_blocks_is_that_over_pixels(is_mask: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    prediction = torch.randn(3, GRID.tokens, 2 if is_mask else 1, generator=draw).double()
    target = torch.randn(3, 6, 9, generator=draw).double()
    target = (target > 0).double() if is_mask else target
    in_blocks = block_loss(prediction, target_blocks(target, GRID, is_mask))
    torch.testing.assert_close(in_blocks, pixel_loss(prediction, target))


def drawn(seed: int, noise: float = 0.0) -> tuple[Tensor, Labels]:
    """Activations, and a depth that is linear in them (if without noise) on every block."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(IMAGES, GRID.tokens, CHANNELS, generator=draw, dtype=torch.float64)
    coarse = (x @ WEIGHTS + 3).unflatten(-1, GRID.shape)
    h, w = SIZE[0] // GRID.rows, SIZE[1] // GRID.columns
    maps = coarse.repeat_interleave(h, -2).repeat_interleave(w, -1)
    maps = maps + noise * torch.randn(maps.shape, generator=draw, dtype=torch.float64)
    return x, Labels(disparity=maps, saliency=maps > 3)


def transposed(x: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    turned = x.unflatten(1, GRID.shape).transpose(1, 2).flatten(1, 2)
    return turned, Labels(disparity=labels.disparity.mT, saliency=labels.saliency.mT)


def fitted(data: list[tuple[Tensor, Labels]], grid: Grid) -> ProbeSet:
    folds = []
    for x, labels in data:
        accumulator = Accumulator(TASKS, [])
        accumulator.update(0, "trained", "layer", x, grid)
        accumulator.finish(labels)
        # Statistics pass through a file in a run.
        folds.append(sums_of_tensors(accumulator.sums().tensors()))
    return solve_probe_set(folds, ["depth"], (0,), {"trained"}, threads=1)


def read(probe_set: ProbeSet, x: Tensor, labels: Labels, grid: Grid) -> Readout:
    readout = Readout(probe_set, TASKS)
    readout.update(0, "trained", "layer", x, grid)
    readout.finish(labels)
    return readout


def test_a_target_linear_in_the_features_is_recovered_exactly() -> None:
    probe_set = fitted([drawn(seed) for seed in range(5)], GRID)
    cell = Cell("trained", "layer", 0, ACTIVATIONS, 0, GRID)
    probe = probe_set.probes["depth"][cell]
    torch.testing.assert_close(probe.weights[:, 0], WEIGHTS, rtol=1e-5, atol=1e-5)
    assert float(probe.intercept) == pytest.approx(3, abs=1e-5)
    x, labels = drawn(9)
    readout = read(probe_set, x, labels, GRID)
    scores = readout.scores()["depth"]
    names = [metric.name for metric in DEPTH.metrics]
    cells = probe_set.cells("depth")
    for exact in (cell, baseline_cell(CEILING, GRID)):
        row = scores[cells.index(exact)]
        assert float(row[names.index("rmse")].max()) < 1e-4
        assert float(row[names.index("spearman")].min()) == pytest.approx(1)
    assert {cell.grid for cell in cells} == {GRID, Grid(*SIZE)}
    mean = probe_set.mean_map["depth"]
    assert mean.shape == (1, *SIZE)
    errors = (labels.disparity - mean[0]).square().mean((-1, -2)).sqrt()
    of_mean = scores[cells.index(baseline_cell(MEAN_MAP, Grid(*SIZE))), names.index("rmse")]
    torch.testing.assert_close(of_mean, errors)


def test_transposed_data_have_transposed_readouts_and_the_same_scores() -> None:
    data = [drawn(seed, noise=0.5) for seed in range(5)]
    test, turned = drawn(9, noise=0.5), Grid(GRID.columns, GRID.rows)
    one = fitted(data, GRID)
    other = fitted([transposed(*pair) for pair in data], turned)
    first, second = read(one, *test, GRID), read(other, *transposed(*test), turned)
    for probe in (ACTIVATIONS, WITH_POSITION):
        before = first.predictions["depth", Cell("trained", "layer", 0, probe, 0, GRID)]
        after = second.predictions["depth", Cell("trained", "layer", 0, probe, 0, turned)]
        expected = before.unflatten(1, GRID.shape).transpose(1, 2).flatten(1, 2)
        torch.testing.assert_close(after, expected, rtol=1e-8, atol=1e-8)
        assert not torch.allclose(after, before, atol=0.1)
    assert [cell.probe for cell in one.cells("depth")] == [c.probe for c in other.cells("depth")]
    assert POSITION in {cell.network for cell in one.cells("depth")}
    torch.testing.assert_close(first.scores()["depth"], second.scores()["depth"])


def test_files_name_rows_and_columns_only_of_grids_that_are_not_square() -> None:
    x, labels = drawn(0)
    square = Labels(disparity=labels.disparity[..., :6], saliency=labels.saliency[..., :6])
    stored = []
    for activation, own, grid in ((x, labels, GRID), (x[:, :4], square, Grid(2, 2))):
        accumulator = Accumulator(TASKS, [])
        accumulator.update(0, "trained", "layer", activation, grid)
        accumulator.finish(own)
        stored.append(accumulator.sums().tensors())
        again = sums_of_tensors(stored[-1])
        assert again.shapes == accumulator.sums().shapes
        assert again.within.keys() == {("depth", grid)}
    wide, same = stored
    assert wide["shape/trained/layer"].tolist() == [2, 3, CHANNELS]
    assert same["shape/trained/layer"].tolist() == [4, CHANNELS]
    assert "within/depth/2x3" in wide
    assert "within/depth/2" in same
    probes = fitted([drawn(seed) for seed in range(5)], GRID).probes
    flat = tensors_of(probes)
    assert "depth/trained/layer/activations/2x3/weights" in flat
    assert "depth/position/2x3/position/2x3/weights" in flat
    assert list(probes_of(flat, ["depth"])["depth"]) == list(probes["depth"])


def test_label_maps_are_read_at_every_pixel() -> None:
    solved = fitted([drawn(seed) for seed in range(5)], GRID)
    probe_set = with_readings(solved, "decoded", ["image"], [0])
    cell = Cell("decoded", "image", 0, ACTIVATIONS, 0, Grid(*SIZE))
    assert cell in probe_set.cells("depth")
    _, labels = drawn(9)
    readout = Readout(probe_set, TASKS)
    readout.update(0, "decoded", "image", labels.disparity.flatten(1)[..., None], Grid(*SIZE))
    actual = readout.predictions["depth", cell][..., 0].unflatten(1, SIZE)
    torch.testing.assert_close(actual, labels.disparity)
