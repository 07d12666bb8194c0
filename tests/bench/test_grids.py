"""Images and grids that are not square: figures, tables, scores, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.adam_vs_ridge.experiment import in_closed_form
from bench.calibration.null_data import _thinned
from bench.config import Config
from bench.curation.agreement import agreement_of
from bench.errors import UserError
from bench.figures.images import image_of
from bench.interventions.path import offsets_along
from bench.interventions.reference import Reference, columns
from bench.report.poster import GAP, HEAD, MARGIN, TILE, write_poster
from bench.report.tables import layer_rows
from bench.runs.read import Run
from bench.runs.results import Results
from bench.study import open_study
from datasets.errors import DatasetError
from datasets.grid import Grid
from datasets.labelers.tiny import LABELER
from datasets.labels import Labels
from probes.tasks.depth import TASK as DEPTH

HEIGHT, WIDTH = 24, 36


def labels_of(n: int, height: int = HEIGHT, width: int = WIDTH) -> Labels:
    draw = torch.Generator().manual_seed(height)
    disparity = torch.randn(n, height, width, generator=draw)
    return Labels(disparity, disparity > 1)


@pytest.fixture
def wide(small_run: Results) -> Results:
    """The small run as if each grid had twice the columns and each image half the height."""
    tasks = {
        name: replace(
            task,
            cells=tuple(
                replace(cell, grid=Grid(cell.grid.rows, 2 * cell.grid.columns))
                for cell in task.cells
            ),
        )
        for name, task in small_run.tasks.items()
    }
    strips = {
        name: values[..., : values.shape[-2] // 2, :] for name, values in small_run.strips.items()
    }
    return replace(small_run, tasks=tasks, strips=strips)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(64, 64, (96, 96)), (64, 96, (96, 64)), (3, 2, (64, 96))]
)
def test_images_and_their_readings_keep_their_proportions(
    height: int, width: int, size: tuple[int, int]
) -> None:
    assert image_of(np.zeros((3, height, width), dtype=np.uint8), 96).size == size


def test_a_poster_of_wide_images_has_lower_rows(
    small_run: Results, wide: Results, tmp_path: Path
) -> None:
    sizes = []
    for results in (small_run, wide):
        with Image.open(write_poster(results, tmp_path / "poster.png", items=1)) as poster:
            sizes.append(poster.size)
    (width, height), (same, lower) = sizes
    rows = 1 + sum(f"label/{name}" in wide.strips for name in wide.tasks)
    assert width == same == MARGIN + (width - MARGIN) // (TILE + GAP) * (TILE + GAP)
    assert height - lower == rows * TILE // 2
    assert lower > HEAD + rows * TILE // 2


def test_tables_and_coordinates_name_rows_and_columns(small_run: Results, wide: Results) -> None:
    square = [row["tokens"] for row in layer_rows(small_run, small_run.tasks["depth"])]
    oblong = [row["tokens"] for row in layer_rows(wide, wide.tasks["depth"])]
    assert square == ["2x2", "8x8", "16x16"]
    assert oblong == ["2x4", "8x16", "16x32"]
    sides = Run(small_run).scores("depth").coords["side"]
    assert sides.dtype.kind == "i"
    assert set(sides) == {2, 8, 16, 64}
    assert set(Run(wide).scores("depth").coords["side"]) == {*oblong, "64x128"}
    chosen = Run(wide).scores("depth").select(side="8x16", network="trained")
    assert set(chosen.coords["layer"]) == {"up2.1"}


def test_rendered_scenes_are_refused_for_images_that_are_not_square() -> None:
    config = Config(limit=20, engine="torch_eager", size=(64, 96))
    assert open_study(config).components.image_size == (64, 96)
    message = "scenes are rendered square and the model's images have 64 x 96 pixels"
    with pytest.raises(UserError, match=message):
        open_study(replace(config, source="rendered"))


def test_the_shipped_labeler_reads_other_sizes_or_says_which() -> None:
    labeler = LABELER.open()
    assert labeler(torch.rand(1, 3, 32, 48)).disparity.shape == (1, 32, 48)
    with pytest.raises(DatasetError, match="multiples of 4, not 32 x 50 pixels"):
        labeler(torch.rand(1, 3, 32, 50))


def test_labelers_are_compared_on_images_of_any_proportions() -> None:
    reader = LABELER.open()
    images = torch.randint(0, 256, (3, 3, 32, 48), dtype=torch.uint8)
    scores = agreement_of(reader, reader, images, {"depth": DEPTH})
    assert scores["depth", "rmse"].mean == 0


def test_interventions_on_wide_images_are_scored_per_pixel() -> None:
    before, after = labels_of(2), labels_of(2, HEIGHT, WIDTH)
    after = Labels(after.disparity + 0.5, after.saliency)
    image = torch.rand(2, 3, HEIGHT, WIDTH)
    reference = Reference(DEPTH, image, before, before)
    scores = dict(zip(columns(DEPTH), reference.scores(image, after, 1.0).T, strict=True))
    np.testing.assert_allclose(scores["rmse_shifted"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(scores["spearman_original"], 1, rtol=1e-9)


def test_a_circle_stays_a_circle_in_a_wide_image() -> None:
    offsets = np.array(offsets_along("circle", 8, 64, 128))
    assert np.array_equal(offsets, offsets_along("circle", 8, 64, 64))
    assert np.array_equal(offsets, offsets_along("circle", 8, 128, 64))


def test_null_labels_are_thinned_to_a_pixel_per_token() -> None:
    labels = labels_of(2)
    thinned = _thinned(labels, Grid(4, 6))
    assert torch.equal(thinned.disparity, labels.disparity[:, ::6, ::6])
    wider = _thinned(labels_of(2, 8, 36), Grid(4, 6))
    assert wider.saliency.shape == (2, 4, 6)


def test_ridge_is_timed_on_block_means_of_a_wide_grid() -> None:
    draw = torch.Generator().manual_seed(0)
    weights, grid = torch.tensor([1.0, -2.0, 0.5]), Grid(4, 6)
    blocks = [torch.randn(4, grid.tokens, 3, generator=draw) for _ in range(5)]
    targets = [
        (block @ weights).unflatten(1, grid.shape).repeat_interleave(6, 1).repeat_interleave(6, 2)
        for block in blocks
    ]
    fit = in_closed_form(blocks, targets, range(5), grid)
    torch.testing.assert_close(fit.weights[:, 0], weights.double(), rtol=1e-4, atol=1e-4)
