"""Predictions, scores and threshold sweeps against pixel-level computations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.grid import Grid
from datasets.labels import Labels
from probes.position import position_columns
from probes.probe_set import (
    CEILING,
    FOREGROUND,
    MEAN_MAP,
    PERMUTED,
    POSITION,
    WITH_POSITION,
    Cell,
    ProbeSet,
)
from probes.readout import THRESHOLDS, Readout, best_thresholds
from probes.solve import solve_probe_set


@pytest.fixture(scope="module")
def block(world: SimpleNamespace) -> object:
    return world.draw(50, noise=1.0, images=3)


@pytest.fixture(scope="module")
def probe_set(world: SimpleNamespace) -> ProbeSet:
    solved = solve_probe_set(world.folds, list(world.tasks), world.steps, {"trained"}, threads=1)
    rng = np.random.default_rng(0)
    thresholds = {cell: float(rng.choice(THRESHOLDS)) for cell in solved.cells("saliency")}
    everything = Cell(FOREGROUND, "4x4", -1, FOREGROUND, 0, Grid(4, 4))
    return replace(solved, thresholds={"saliency": thresholds | {everything: 0.02}})


@pytest.fixture(scope="module")
def readout(world: SimpleNamespace, probe_set: ProbeSet, block: object) -> Readout:
    result = Readout(probe_set, world.tasks)
    block.feed(result)
    return result


class PixelLevel:
    """Every cell's prediction for every pixel, computed explicitly."""

    def __init__(
        self, world: SimpleNamespace, probe_set: ProbeSet, block: object, pixels: SimpleNamespace
    ) -> None:
        self.world, self.probe_set, self.block, self.pixels = world, probe_set, block, pixels

    def prediction(self, task: str, cell: Cell) -> np.ndarray:
        target = self.block.target(task)
        n, k = target.shape[:2]
        if cell.network == MEAN_MAP:
            mean = np.concatenate([block.target(task) for block in self.world.blocks]).mean(0)
            return np.tile(mean, (n, 1, 1, 1))
        if cell.network == FOREGROUND:
            return np.ones_like(target)
        if cell.network == CEILING:
            size = self.world.size // cell.grid.rows
            tokens = (
                target.reshape(n, k, cell.grid.rows, size, cell.grid.rows, size)
                .mean((3, 5))
                .reshape(n, k, -1)
            )
        else:
            probe = self.probe_set.probes[task][cell]
            features = np.tile(position_columns(cell.grid).numpy(), (n, 1, 1))
            if cell.network != POSITION:
                at = self.world.steps.index(cell.step)
                activation = self.block.activations[cell.network, cell.layer][at].double().numpy()
                both = np.concatenate([activation, features], axis=-1)
                features = both if cell.probe == WITH_POSITION else activation
            tokens = (features @ probe.weights.numpy() + probe.intercept.numpy()).transpose(0, 2, 1)
        return self.pixels.upsampled(tokens, self.world.size, self.world.size)

    def cells(self, task: str) -> Iterator[tuple[int, np.ndarray]]:
        for at, cell in enumerate(self.probe_set.cells(task)):
            yield at, self.prediction(task, cell)


@pytest.fixture(scope="module")
def pixel_level(
    world: SimpleNamespace, probe_set: ProbeSet, block: object, pixels: SimpleNamespace
) -> PixelLevel:
    return PixelLevel(world, probe_set, block, pixels)


@pytest.mark.parametrize("task", ["saliency", "depth", "normals"])
def test_predictions_equal_the_pixel_level_pipeline(
    world: SimpleNamespace,
    probe_set: ProbeSet,
    readout: Readout,
    pixel_level: PixelLevel,
    pixels: SimpleNamespace,
    task: str,
) -> None:
    cells, indices = probe_set.cells(task), []
    for at, predictions, blocks in readout.groups(task):
        assert {cells[index].grid for index in at} == {blocks.grid}
        for index, prediction in zip(at, predictions, strict=True):
            full = pixels.upsampled(prediction.numpy(), world.size, world.size)
            np.testing.assert_allclose(
                full, pixel_level.prediction(task, cells[index]), rtol=1e-9, atol=1e-10
            )
        indices += at
    assert sorted(indices) == list(range(len(cells)))


@pytest.mark.parametrize("task", ["saliency", "depth", "normals"])
def test_scores_equal_pixel_level_metrics_of_every_image(
    world: SimpleNamespace,
    probe_set: ProbeSet,
    readout: Readout,
    pixel_level: PixelLevel,
    pixels: SimpleNamespace,
    task: str,
) -> None:
    metrics, target = world.tasks[task].metrics, pixel_level.block.target(task)
    actual = readout.scores()[task]
    assert actual.shape == (len(probe_set.cells(task)), len(metrics), len(target))
    for at, prediction in pixel_level.cells(task):
        threshold = (
            probe_set.thresholds[task][probe_set.cells(task)[at]] if task == "saliency" else np.nan
        )
        for column, metric in enumerate(metrics):
            for n in range(len(target)):
                at_image = slice(None) if task == "normals" else 0
                expected = pixels.metrics[metric.name](
                    prediction[n, at_image], target[n, at_image], threshold
                )
                assert float(actual[at, column, n]) == pytest.approx(
                    expected, abs=1e-8, nan_ok=True
                )


def test_sweep_is_the_sum_of_dice_at_every_candidate(
    probe_set: ProbeSet, readout: Readout, pixel_level: PixelLevel, pixels: SimpleNamespace
) -> None:
    truth = pixel_level.block.target("saliency")[:, 0]
    orders = [np.roll(np.arange(len(truth)), draw).tolist() for draw in range(1, 6)]
    swept = readout.sweep(orders)
    assert list(swept) == ["saliency"]
    cells = readout.cells["saliency"]
    for at, prediction in pixel_level.cells("saliency"):
        draw = cells[at].draw
        target = truth[orders[draw - 1]] if draw else truth
        for column, candidate in enumerate(THRESHOLDS):
            expected = sum(
                pixels.metrics["dice"](prediction[n, 0], target[n], candidate)
                for n in range(len(target))
            )
            assert float(swept["saliency"][at, column]) == pytest.approx(expected, abs=1e-9)


def test_candidates_lie_between_the_two_values_of_a_mask() -> None:
    np.testing.assert_allclose(THRESHOLDS, np.arange(0.02, 0.99, 0.02), atol=1e-12)


def test_best_threshold_has_the_best_mean_dice_over_all_blocks(
    world: SimpleNamespace, probe_set: ProbeSet
) -> None:
    tasks = {"saliency": world.tasks["saliency"]}
    swept, blocks = [], [world.draw(seed, noise=1.0, images=3) for seed in (60, 61)]
    for block in blocks:
        readout = Readout(probe_set, tasks)
        block.feed(readout)
        swept.append(readout.sweep([[0, 1, 2]] * 5)["saliency"])
    actual = best_thresholds(
        replace(probe_set, thresholds={}), {"saliency": (swept[0] + swept[1])[:-1]}
    )["saliency"]
    assert tuple(actual) == probe_set.cells("saliency")
    scores = []
    for candidate in THRESHOLDS:
        table = {"saliency": dict.fromkeys(actual, candidate)}
        totals = 0
        for block in blocks:
            readout = Readout(replace(probe_set, thresholds=table), tasks)
            block.feed(readout)
            totals = totals + readout.scores()["saliency"][:, 0].sum(-1)
        scores.append(totals)
    best = torch.stack(scores).max(0).values
    for at, threshold in enumerate(actual.values()):
        assert float(scores[THRESHOLDS.index(threshold)][at]) == pytest.approx(
            float(best[at]), abs=1e-12
        )


def test_the_ceiling_is_no_lower_than_any_probe_of_its_grid(
    probe_set: ProbeSet, readout: Readout
) -> None:
    rmse = readout.scores()["depth"][:, 0]
    cells = probe_set.cells("depth")
    for side in (4, 8):
        of_grid = [at for at, cell in enumerate(cells) if cell.grid == Grid(side, side)]
        ceiling = next(at for at in of_grid if cells[at].network == CEILING)
        assert (rmse[of_grid] >= rmse[ceiling] - 1e-12).all()


def test_the_mean_map_scores_the_same_for_the_whole_resolution(
    probe_set: ProbeSet, readout: Readout, pixel_level: PixelLevel
) -> None:
    cells = probe_set.cells("depth")
    at = next(at for at, cell in enumerate(cells) if cell.network == MEAN_MAP)
    assert cells[at].grid == Grid(16, 16)
    error = pixel_level.prediction("depth", cells[at]) - pixel_level.block.target("depth")
    np.testing.assert_allclose(
        readout.scores()["depth"][at, 0], np.sqrt((error**2).mean((1, 2, 3))), rtol=1e-9
    )


def test_steps_and_sites_without_probes_are_ignored(
    world: SimpleNamespace, probe_set: ProbeSet
) -> None:
    readout = Readout(probe_set, world.tasks)
    readout.update(world.steps[0] + 1, "trained", "fine", torch.zeros(2, 64, 5), Grid(8, 8))
    readout.update(world.steps[0], "trained", "unknown", torch.zeros(2, 64, 5), Grid(8, 8))
    readout.update(world.steps[0], "random-2", "fine", torch.zeros(2, 64, 5), Grid(8, 8))
    assert not readout.predictions


def test_images_are_scored_alone(
    world: SimpleNamespace, probe_set: ProbeSet, block: object, readout: Readout
) -> None:
    together = readout.scores()
    one = world.draw(50, noise=1.0, images=3)
    for steps in one.activations.values():
        for at, activation in enumerate(steps):
            steps[at] = activation[[1]]
    labels = one.labels
    picked = Labels(labels.disparity[[1]], labels.saliency[[1]], labels.normals[[1]])
    alone = Readout(probe_set, world.tasks)
    replace(one, labels=picked).feed(alone)
    for task, table in alone.scores().items():
        torch.testing.assert_close(
            table[..., 0], together[task][..., 1], rtol=1e-9, atol=1e-9, equal_nan=True
        )


def test_permuted_probes_are_scored_against_the_true_labels(
    world: SimpleNamespace,
    probe_set: ProbeSet,
    readout: Readout,
    pixel_level: PixelLevel,
    pixels: SimpleNamespace,
) -> None:
    cells = probe_set.cells("depth")
    at = next(at for at, cell in enumerate(cells) if cell.probe == PERMUTED)
    prediction, target = (
        pixel_level.prediction("depth", cells[at]),
        pixel_level.block.target("depth"),
    )
    expected = [pixels.metrics["rmse"](prediction[n], target[n], 0.0) for n in range(len(target))]
    np.testing.assert_allclose(readout.scores()["depth"][at, 0], expected, rtol=1e-9)


def test_the_all_foreground_baseline_has_the_dice_of_the_masks_share(
    probe_set: ProbeSet, readout: Readout, block: object
) -> None:
    share = block.labels.saliency.numpy().mean((1, 2))
    at = next(
        at for at, cell in enumerate(probe_set.cells("saliency")) if cell.network == FOREGROUND
    )
    np.testing.assert_allclose(
        readout.scores()["saliency"][at, 0], 2 * share / (1 + share), rtol=1e-12
    )
    np.testing.assert_allclose(readout.scores()["saliency"][at, 2], share, rtol=1e-12)
    np.testing.assert_allclose(readout.foreground, share, rtol=1e-12)


def test_probes_with_position_alone_predict_as_beside_those_without(
    world: SimpleNamespace, probe_set: ProbeSet, readout: Readout, block: object
) -> None:
    only = {
        name: {cell: probe for cell, probe in found.items() if cell.probe == WITH_POSITION}
        for name, found in probe_set.probes.items()
    }
    alone = Readout(replace(probe_set, probes=only), world.tasks)
    block.feed(alone)
    cells = [(name, cell) for name, found in only.items() for cell in found]
    assert cells
    for key in cells:
        assert torch.allclose(alone.predictions[key], readout.predictions[key], rtol=1e-12)
