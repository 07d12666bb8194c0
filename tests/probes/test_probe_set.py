"""Probes against cross-validated ridge regression on the stacked rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge

from datasets.grid import Grid
from probes.position import position_columns
from probes.probe_set import (
    ACTIVATIONS,
    ALWAYS,
    PERMUTED,
    POSITION,
    WITH_POSITION,
    Cell,
    FittedProbe,
    ProbeSet,
)
from probes.ridge import PENALTIES
from probes.solve import solve_probe_set

SITE = ("trained", "fine")


@dataclass(frozen=True)
class Rows:
    """The rows of one site and step, as scikit-learn takes them."""

    x: np.ndarray
    position: np.ndarray
    y: dict[tuple[str, int], np.ndarray]
    pixels: dict[str, np.ndarray]
    """Target per token and pixel of its block: rows x channels x pixels."""
    fold: np.ndarray


def rows_of(folds: list[list], site: tuple[str, str], at: int, side: int) -> Rows:
    x, position, fold, y, pixels = [], [], [], {}, {}
    for number, blocks in enumerate(folds):
        for block in blocks:
            n = len(block.labels.disparity)
            x.append(block.activations[site][at].double().flatten(0, 1).numpy())
            position.append(np.tile(position_columns(Grid(side, side)).numpy(), (n, 1)))
            fold.append(np.full(n * side * side, number))
            for task in ("depth", "normals", "saliency"):
                target = block.target(task)
                k, size = target.shape[1], target.shape[-1] // side
                tiles = (
                    target.reshape(n, k, side, size, side, size)
                    .transpose(0, 2, 4, 1, 3, 5)
                    .reshape(n, -1, k, size**2)
                )
                for draw, order in enumerate([list(range(n)), *block.permutations]):
                    y.setdefault((task, draw), []).append(tiles[order].mean(-1).reshape(-1, k))
                pixels.setdefault(task, []).append(tiles.reshape(-1, k, size**2))
    join = np.concatenate
    targets = {key: join(value) for key, value in y.items()}
    return Rows(
        join(x),
        join(position),
        targets,
        {key: join(value) for key, value in pixels.items()},
        join(fold),
    )


def alphas_of(x: np.ndarray) -> np.ndarray:
    return np.array(PENALTIES) * ((x - x.mean(0)) ** 2).sum(0).mean()


def held_out_losses(
    rows: Rows, x: np.ndarray, y: np.ndarray, loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Mean over folds, per penalty and channel, of the loss of a fit on the other folds."""
    losses = []
    for fold in np.unique(rows.fold):
        train, test = rows.fold != fold, rows.fold == fold
        fits = [Ridge(alpha=alpha, solver="svd").fit(x[train], y[train]) for alpha in alphas_of(x)]
        losses.append(
            [loss(fitted.predict(x[test]).reshape(-1, y.shape[1]), test) for fitted in fits]
        )
    return np.mean(losses, axis=0)


def assert_is_cross_validated_ridge(
    solved: FittedProbe, rows: Rows, x: np.ndarray, y: np.ndarray
) -> None:
    losses = held_out_losses(
        rows, x, y, lambda predicted, test: ((predicted - y[test]) ** 2).mean(0)
    )
    chosen = losses.argmin(0)
    for k, at in enumerate(chosen):
        ridge = Ridge(alpha=alphas_of(x)[at], solver="svd").fit(x, y[:, k])
        assert (
            np.abs(solved.weights[:, k].numpy() - ridge.coef_).max()
            < 1e-6 * np.abs(ridge.coef_).max()
        )
        assert float(solved.intercept[k]) == pytest.approx(ridge.intercept_, rel=1e-6, abs=1e-9)
    assert solved.penalty == PENALTIES[chosen.max()]
    assert solved.at_edge == (chosen.min() == 0 or chosen.max() == 19)


def pixel_loss(rows: Rows, x: np.ndarray, task: str) -> float:
    """Mean squared error of held-out tokens at every pixel, at each channel's best penalty."""

    def loss(predicted: np.ndarray, test: np.ndarray) -> np.ndarray:
        return ((predicted[:, :, None] - rows.pixels[task][test]) ** 2).mean((0, 2))

    return held_out_losses(rows, x, rows.y[task, 0], loss).min(0).mean()


@pytest.mark.parametrize("task", ["saliency", "depth", "normals"])
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("site", [SITE, ("random-1", "coarse")], ids=" ".join)
def test_activation_probes_are_cross_validated_ridge(
    world: SimpleNamespace, probe_set: ProbeSet, site: tuple[str, str], at: int, task: str
) -> None:
    rows = rows_of([[block] for block in world.blocks], site, at, world.sides[site])
    solved = probe_set.probes[task][world.cell(site, world.steps[at], ACTIVATIONS)]
    assert_is_cross_validated_ridge(solved, rows, rows.x, rows.y[task, 0])


@pytest.mark.parametrize("draw", [1, 5])
@pytest.mark.parametrize("task", ["saliency", "normals"])
def test_permuted_probes_are_fit_to_permuted_labels(
    world: SimpleNamespace, probe_set: ProbeSet, task: str, draw: int
) -> None:
    rows = rows_of([[block] for block in world.blocks], SITE, 1, 8)
    solved = probe_set.probes[task][world.cell(SITE, world.steps[1], PERMUTED, draw)]
    assert_is_cross_validated_ridge(solved, rows, rows.x, rows.y[task, draw])


@pytest.mark.parametrize("task", ["saliency", "depth", "normals"])
@pytest.mark.parametrize("side", [4, 8])
def test_position_probes_use_the_position_alone(
    world: SimpleNamespace, probe_set: ProbeSet, task: str, side: int
) -> None:
    site = next(site for site, of_site in world.sides.items() if of_site == side)
    rows = rows_of([[block] for block in world.blocks], site, 0, side)
    solved = probe_set.probes[task][
        Cell(POSITION, f"{side}x{side}", ALWAYS, POSITION, 0, Grid(side, side))
    ]
    assert_is_cross_validated_ridge(solved, rows, rows.position, rows.y[task, 0])


@pytest.mark.parametrize("task", ["saliency", "depth"])
def test_probes_with_position_use_columns_of_one_scale(
    world: SimpleNamespace, probe_set: ProbeSet, task: str
) -> None:
    rows = rows_of([[block] for block in world.blocks], SITE, 0, 8)
    within = [
        [np.var(columns[rows.fold == fold], axis=0).mean() for fold in range(5)]
        for columns in (rows.x, rows.position)
    ]
    scale = np.sqrt(np.mean(within[0]) / np.mean(within[1]))
    solved = probe_set.probes[task][world.cell(SITE, world.steps[0], WITH_POSITION)]
    rescaled = FittedProbe(
        torch.cat([solved.weights[:5], solved.weights[5:] / scale]),
        solved.intercept,
        solved.penalty,
        solved.at_edge,
        solved.cv_loss,
    )
    both = np.concatenate([rows.x, rows.position * scale], axis=1)
    assert_is_cross_validated_ridge(rescaled, rows, both, rows.y[task, 0])


def test_probes_with_position_and_a_small_penalty_are_least_squares(world: SimpleNamespace) -> None:
    blocks = [world.draw(seed, noise=0.3, images=4) for seed in range(5)]
    rng = np.random.default_rng(0)
    weights, slopes = rng.normal(size=5), rng.normal(size=14)
    for block in blocks:
        x = block.activations[SITE][0].double()
        y = (
            2
            + (x - 10) @ torch.from_numpy(weights)
            + position_columns(Grid(8, 8)) @ torch.from_numpy(slopes)
        )
        exact = y.unflatten(-1, (8, 8)).repeat_interleave(2, -1).repeat_interleave(2, -2)
        block.labels.disparity.copy_(exact)
    tasks = {"depth": world.tasks["depth"]}
    folds = [block.sums(tasks) for block in blocks]
    probe_set = solve_probe_set(folds, ["depth"], world.steps, (), threads=1)
    solved = probe_set.probes["depth"][world.cell(SITE, world.steps[0], WITH_POSITION)]
    assert solved.penalty == PENALTIES[0]
    assert solved.at_edge
    rows = rows_of([[block] for block in blocks], SITE, 0, 8)
    both = np.concatenate([rows.x, rows.position], axis=1)
    plain = LinearRegression().fit(both, rows.y["depth", 0][:, 0])
    assert np.abs(solved.weights[:, 0].numpy() - plain.coef_).max() < 1e-3
    assert np.abs(solved.weights[:, 0].numpy() - np.concatenate([weights, slopes])).max() < 1e-3
    assert (
        solved.cv_loss
        < 1e-6
        < probe_set.probes["depth"][world.cell(SITE, world.steps[0], ACTIVATIONS)].cv_loss
    )


@pytest.mark.parametrize("task", ["saliency", "depth", "normals"])
def test_cv_loss_is_that_of_held_out_pixels(
    world: SimpleNamespace, probe_set: ProbeSet, task: str
) -> None:
    rows = rows_of([[block] for block in world.blocks], SITE, 1, 8)
    solved = probe_set.probes[task][world.cell(SITE, world.steps[1], ACTIVATIONS)]
    assert solved.cv_loss == pytest.approx(pixel_loss(rows, rows.x, task), rel=1e-8)
    position = probe_set.probes[task][Cell(POSITION, "8x8", ALWAYS, POSITION, 0, Grid(8, 8))]
    assert position.cv_loss == pytest.approx(pixel_loss(rows, rows.position, task), rel=1e-8)


@pytest.mark.parametrize("task", ["saliency", "depth"])
def test_cv_loss_is_that_of_held_out_pixels_when_folds_are_unequal(
    world: SimpleNamespace, task: str
) -> None:
    folds = [[world.blocks[0], world.blocks[1]], [world.blocks[2]], [world.blocks[3]]]
    sums = [world.total(block.sums(world.tasks) for block in fold) for fold in folds]
    probe_set = solve_probe_set(sums, [task], world.steps, (), threads=1)
    rows = rows_of(folds, ("trained", "coarse"), 0, 4)
    solved = probe_set.probes[task][world.cell(("trained", "coarse"), world.steps[0], ACTIVATIONS)]
    assert solved.cv_loss == pytest.approx(pixel_loss(rows, rows.x, task), rel=1e-8)
