"""Edits against closed forms, constrained optima and PyTorch's own Adam."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from datasets.grid import Grid
from probes.edit import (
    ITERATIONS,
    LEARNING_RATE,
    METHODS,
    Probe,
    activation_pattern,
    adam_change,
    along,
    matched,
    pattern_change,
    probe_loss,
    weights_change,
)
from probes.probe_set import ACTIVATIONS, PERMUTED, Cell
from probes.solve import solve_probe_set

N, T, C = 3, 4, 6


def case(k: int, **more: float) -> tuple[torch.Tensor, Probe, torch.Tensor, torch.Tensor]:
    """Anisotropic activations, a probe of k targets, target predictions, and the covariance."""
    draw = torch.Generator().manual_seed(k)
    mixing = torch.randn(C, C, generator=draw, dtype=torch.float64)
    x = torch.randn(N, T, C, generator=draw, dtype=torch.float64) @ mixing
    weights = torch.randn(C, k, generator=draw, dtype=torch.float64)
    covariance = mixing.mT @ mixing
    probe = Probe(
        weights,
        torch.randn(k, generator=draw).double(),
        activation_pattern(weights, covariance),
        **more,
    )
    return x, probe, torch.rand(N, T, k, generator=draw, dtype=torch.float64), covariance


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("method", ["weights", "pattern"])
def test_at_strength_one_the_probe_predicts_exactly_the_target(method: str, k: int) -> None:
    x, probe, target, _ = case(k)
    assert torch.allclose(
        probe.read(x + METHODS[method](x, probe, target)), target, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("method", ["weights", "pattern"])
def test_the_change_is_the_constrained_optimum(method: str, k: int) -> None:
    """scipy minimises the (Mahalanobis) norm of a change after which the probe predicts t."""
    x, probe, target, covariance = case(k)
    metric = np.eye(C) if method == "weights" else np.linalg.inv(covariance.numpy())
    residual = (target - probe.read(x))[1, 2].numpy()
    actual = minimize(
        lambda d: d @ metric @ d,
        np.zeros(C),
        jac=lambda d: 2 * metric @ d,
        constraints={
            "type": "eq",
            "fun": lambda d: d @ probe.weights.numpy() - residual,
            "jac": lambda d: probe.weights.numpy().T,
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert actual.success
    assert np.allclose(METHODS[method](x, probe, target)[1, 2].numpy(), actual.x, rtol=0, atol=1e-5)


def test_one_target_gives_the_textbook_formulas() -> None:
    x, probe, target, covariance = case(1)
    w, residual = probe.weights[:, 0], target - probe.read(x)
    assert torch.allclose(weights_change(x, probe, target), residual * w / (w @ w))
    sw = covariance @ w
    assert torch.allclose(pattern_change(x, probe, target), residual * sw / (w @ sw))


def test_the_pattern_is_independent_of_the_covariances_scale_and_zero_for_zero_weights() -> None:
    _, probe, _, covariance = case(2)
    assert torch.allclose(activation_pattern(probe.weights, 1e6 * covariance), probe.pattern)
    assert activation_pattern(torch.zeros(C, 2).double(), covariance).abs().max() == 0


@pytest.mark.parametrize("kind", [{}, {"threshold": 0.4, "cv_loss": 0.05}], ids=["numbers", "mask"])
def test_adam_follows_pytorchs_adam_row_by_row_and_lowers_the_loss(kind: dict[str, float]) -> None:
    x, probe, target, _ = case(1, **kind)
    change = adam_change(x, probe, target)
    edited = x[1:2].clone().requires_grad_()
    optimiser = torch.optim.Adam([edited], lr=LEARNING_RATE)
    for _ in range(ITERATIONS):
        optimiser.zero_grad()
        prediction = edited @ probe.weights + probe.intercept
        if kind:
            odds = (prediction - kind["threshold"]) / kind["cv_loss"]
            loss = torch.nn.BCEWithLogitsLoss()(odds, target[1:2])
        else:
            loss = torch.nn.HuberLoss()(prediction, target[1:2])
        loss.backward()
        optimiser.step()
    assert torch.allclose(change[1:2], edited.detach() - x[1:2], rtol=0, atol=1e-9)
    assert (probe_loss(x + change, probe, target) < probe_loss(x, probe, target)).all()


def test_adam_works_without_gradients_and_does_not_change_its_input() -> None:
    x, probe, target, _ = case(1)
    before = x.clone()
    with torch.no_grad():
        change = adam_change(x, probe, target)
    assert not change.requires_grad
    assert torch.equal(x, before)


def test_a_control_has_the_norm_of_the_change_at_every_token_and_keeps_the_sign() -> None:
    x, probe, target, _ = case(1)
    change, residual = pattern_change(x, probe, target), target - probe.read(x)
    directions = torch.randn(
        N, C, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    control = along(directions, residual, change)
    assert torch.allclose(control.norm(dim=-1), change.norm(dim=-1))
    signs = (control @ directions)[..., 0].sign()
    assert torch.equal(signs, residual[..., 0].sign())
    cosines = torch.cosine_similarity(control, directions.mT.expand(-1, T, -1), dim=-1).abs()
    assert torch.allclose(cosines, torch.ones_like(cosines))


def test_a_control_of_no_change_is_no_change() -> None:
    other, nothing = torch.randn(N, T, C), torch.zeros(N, T, C)
    assert matched(other, nothing).abs().max() == 0
    assert matched(nothing, other).abs().max() == 0


@pytest.mark.parametrize(
    ("task", "probe", "draw"), [("depth", ACTIVATIONS, 0), ("normals", PERMUTED, 1)]
)
def test_a_bank_stores_the_pattern_of_the_training_activations(
    world: SimpleNamespace, task: str, probe: str, draw: int
) -> None:
    probe_set = solve_probe_set(world.folds, list(world.tasks), world.steps, {"trained"}, threads=1)
    solved = probe_set.probes[task][Cell("trained", "fine", 3, probe, draw, Grid(8, 8))]
    x = np.concatenate(
        [block.activations["trained", "fine"][1].double().flatten(0, 1) for block in world.blocks]
    )
    prediction = x @ solved.weights.numpy()
    # Haufe et al. 2014: covariance of activations and predictions over that of the predictions.
    both = np.cov(np.concatenate([x, prediction], axis=1).T)
    channels = x.shape[1]
    expected = both[:channels, channels:] @ np.linalg.inv(both[channels:, channels:])
    assert np.allclose(solved.pattern.numpy(), expected, rtol=1e-6, atol=0)
    assert (
        probe_set.probes[task][Cell("random-1", "coarse", 3, ACTIVATIONS, 0, Grid(4, 4))].pattern
        is None
    )
