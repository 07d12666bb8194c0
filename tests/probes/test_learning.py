"""Learning curves against cross-validation and against ridge on the folds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge

from datasets.grid import Grid
from probes import learning
from probes.learning import learning_curve
from probes.probe_set import ACTIVATIONS, PERMUTED, WITH_POSITION, Cell, ProbeSet
from probes.ridge import PENALTIES
from probes.solve import solve_probe_set

SITE = ("trained", "fine")


@pytest.fixture(scope="module")
def probe_set(world: SimpleNamespace) -> ProbeSet:
    return solve_probe_set(world.folds, list(world.tasks), world.steps, {"trained"}, threads=1)


@pytest.mark.parametrize("task", ["saliency", "depth", "normals"])
@pytest.mark.parametrize(("probe", "draw"), [(ACTIVATIONS, 0), (WITH_POSITION, 0), (PERMUTED, 3)])
def test_all_but_one_fold_is_cross_validation(
    world: SimpleNamespace, probe_set: ProbeSet, task: str, probe: str, draw: int
) -> None:
    cell = Cell(*SITE, world.steps[1], probe, draw, Grid(8, 8))
    points = learning_curve(world.folds, task, cell, 1)
    assert [point.images for point in points] == [4, 8, 12, 16]
    assert points[-1].loss == pytest.approx(probe_set.probes[task][cell].cv_loss, rel=1e-9)


def test_points_are_ridge_from_the_folds_that_follow(world: SimpleNamespace) -> None:
    x = [block.activations[SITE][0].double().flatten(0, 1).numpy() for block in world.blocks]
    pixels = [
        block.target("depth")[:, 0].reshape(4, 8, 2, 8, 2).transpose(0, 1, 3, 2, 4)
        for block in world.blocks
    ]
    y = [values.mean((-1, -2)).reshape(-1, 1) for values in pixels]
    pixels = [values.reshape(-1, 4) for values in pixels]
    everything = np.concatenate(x)
    scale = ((everything - everything.mean(0)) ** 2).sum(0).mean()
    points = learning_curve(
        world.folds, "depth", Cell(*SITE, world.steps[0], ACTIVATIONS, 0, Grid(8, 8)), 0
    )
    means = []
    for fold in range(5):
        rest = np.concatenate([y[other] for other in range(5) if other != fold])
        mean = DummyRegressor().fit(rest, rest).predict(pixels[fold])
        means.append(np.mean((mean.reshape(-1, 1) - pixels[fold]) ** 2))
    for count, point in enumerate(points, 1):
        losses = []
        for fold in range(5):
            taken = [(fold + 1 + k) % 5 for k in range(count)]
            train = np.concatenate([x[k] for k in taken]), np.concatenate([y[k] for k in taken])
            alphas = [penalty * scale * count / 4 for penalty in PENALTIES]
            fits = [
                Ridge(alpha=alpha, solver="svd").fit(*train).predict(x[fold]) for alpha in alphas
            ]
            losses.append([np.mean((read.reshape(-1, 1) - pixels[fold]) ** 2) for read in fits])
        assert point.loss == pytest.approx(np.mean(losses, axis=0).min(), rel=1e-8)
        assert point.explained == pytest.approx(1 - point.loss / np.mean(means), rel=1e-8)


@pytest.mark.parametrize("probe", [ACTIVATIONS, WITH_POSITION])
def test_a_loss_of_nan_counts_as_the_worst(
    world: SimpleNamespace, probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(*SITE, world.steps[0], probe, 0, Grid(8, 8))
    expected = learning_curve(world.folds, "depth", cell, 0)
    real = learning.loss

    def with_nan(*arguments: object) -> torch.Tensor:
        losses = real(*arguments)
        if len(losses) > 1:
            losses[-1] = torch.nan
        return losses

    monkeypatch.setattr(learning, "loss", with_nan)
    # The largest penalty is the worst of an informative probe.
    assert learning_curve(world.folds, "depth", cell, 0) == expected


def test_more_images_help_a_probe_of_informative_activations(world: SimpleNamespace) -> None:
    points = learning_curve(
        world.folds, "depth", Cell(*SITE, world.steps[0], ACTIVATIONS, 0, Grid(8, 8)), 0
    )
    assert points[0].loss > points[-1].loss
    assert 0 < points[-1].explained < 1
