"""Probes of equal width against ridge regression on projected activations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from sklearn.linear_model import Ridge

from datasets.grid import Grid
from probes.equal_width import projected, projection
from probes.moments import moments_of
from probes.probe_set import EQUAL_WIDTH, Cell
from probes.solve import solve_probe_set

SITE, SIDE = ("trained", "coarse"), 4


@pytest.mark.parametrize("task", ["saliency", "depth", "normals"])
def test_probes_are_ridge_on_as_many_random_directions_as_the_narrowest_layer_has_channels(
    world: SimpleNamespace, task: str
) -> None:
    probe_set = solve_probe_set(world.folds, [task], world.steps, {"trained"}, threads=1)
    x = np.concatenate(
        [block.activations[SITE][1].double().flatten(0, 1).numpy() for block in world.blocks]
    )
    targets = np.concatenate([block.target(task) for block in world.blocks])
    n, k = targets.shape[:2]
    y = targets.reshape(n, k, SIDE, 4, SIDE, 4).mean((3, 5)).transpose(0, 2, 3, 1).reshape(-1, k)
    narrow = x @ projection(7, 5).numpy()
    solved = probe_set.probes[task][Cell(*SITE, world.steps[1], EQUAL_WIDTH, 0, Grid(SIDE, SIDE))]
    scale = ((narrow - narrow.mean(0)) ** 2).sum(0).mean()
    prediction = x @ solved.weights.numpy() + solved.intercept.numpy()
    if k == 1:
        ridge = Ridge(alpha=solved.penalty * scale, solver="svd").fit(narrow, y)
        np.testing.assert_allclose(
            prediction, ridge.predict(narrow).reshape(-1, 1), rtol=1e-6, atol=1e-8
        )
    # The weights lie in the span of the directions.
    directions = projection(7, 5)
    torch.testing.assert_close(
        directions @ (directions.mT @ solved.weights), solved.weights, rtol=1e-9, atol=1e-12
    )


def test_directions_are_orthonormal_and_the_same_every_time() -> None:
    directions = projection(12, 4)
    torch.testing.assert_close(
        directions.mT @ directions, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert torch.equal(directions, projection.__wrapped__(12, 4))


def test_directions_favour_no_channel() -> None:
    entries = torch.cat(
        [projection(channels, 3)[:, 0] * channels**0.5 for channels in range(200, 220)]
    )
    assert kstest(entries.numpy(), "norm").pvalue > 0.01


def test_moments_are_those_of_the_projected_rows() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 9)) + 3)
    directions = projection(6, 2)
    actual = projected(moments_of(rows), directions)
    expected = moments_of(torch.cat([rows[:, :6] @ directions, rows[:, 6:]], dim=1))
    torch.testing.assert_close(actual.mean, expected.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(actual.scatter, expected.scatter, rtol=1e-10, atol=1e-10)
