"""Edits: change an activation so that a linear probe reads what it should, and the controls of such a change.

For activations x (tokens as rows) that a probe reads as p = x W + b and that should be read as t, a method gives the
change d of which ``strength`` times is added to x. At strength 1

    weights   d = (t - p) (W'W)^-1 W'     the smallest change after which the probe reads t
    pattern   d = (t - p) V',  V = S W (W'S W)^-1    the same, smallest in the Mahalanobis metric of the activations'
              covariance S: it goes along how the activations vary with what is read (Haufe et al. 2014)
    adam      d of 128 iterations of Adam on the probe's loss, as Chen et al. 2023 edit

A control has the per-token norm of the change that it controls, and another direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

LEARNING_RATE, ITERATIONS = 5e-3, 128
"""Of the paper's edits."""

Change = Float[Tensor, "n t c"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear probe, with what editing by it needs."""

    weights: Float[Tensor, "c k"]
    intercept: Float[Tensor, " k"]
    pattern: Float[Tensor, "c k"]
    threshold: float | None = None
    """Above it a reading counts as foreground; None for a probe that reads numbers."""
    cv_loss: float = 1.0
    """Mean squared error of its readings on held-out images."""

    def read(self, x: Float[Tensor, "n t c"]) -> Float[Tensor, "n t k"]:
        """What it reads."""
        reading: Tensor = x @ self.weights + self.intercept
        return reading


def activation_pattern(
    weights: Float[Tensor, "c k"], covariance: Float[Tensor, "c c"]
) -> Float[Tensor, "c k"]:
    """V = S W (W'S W)^-1, in float64; any multiple of the covariance gives the same."""
    varies = covariance @ weights
    # A probe that reads nothing has no pattern: the pseudo-inverse gives zero there, not infinity.
    pattern: Tensor = varies @ torch.linalg.pinv(weights.mT @ varies, hermitian=True)
    return pattern


def weights_change(
    x: Float[Tensor, "n t c"], probe: Probe, target: Float[Tensor, "n t k"]
) -> Change:
    """The smallest change after which the probe reads the target."""
    change: Tensor = (target - probe.read(x)) @ torch.linalg.pinv(probe.weights)
    return change


def pattern_change(
    x: Float[Tensor, "n t c"], probe: Probe, target: Float[Tensor, "n t k"]
) -> Change:
    """The change along the activation pattern after which the probe reads the target."""
    change: Tensor = (target - probe.read(x)) @ probe.pattern.mT
    return change


def probe_loss(
    x: Float[Tensor, "n t c"], probe: Probe, target: Float[Tensor, "n t k"]
) -> Float[Tensor, " n"]:
    """The loss that the paper's probes minimise, as a mean over tokens: cross-entropy for a mask, Huber's for numbers.

    A least-squares reading of a 0/1 target with residual variance v is a linear discriminant with log odds
    (reading - threshold) / v.
    """
    reading = probe.read(x)
    if probe.threshold is None:
        loss = functional.huber_loss(reading, target, reduction="none")
    else:
        odds = (reading - probe.threshold) / probe.cv_loss
        loss = functional.binary_cross_entropy_with_logits(odds, target, reduction="none")
    return loss.mean((-1, -2))


def adam_change(x: Float[Tensor, "n t c"], probe: Probe, target: Float[Tensor, "n t k"]) -> Change:
    """The change that the paper's optimiser makes. Every row is optimised on its own, whatever the batch."""
    start = x.detach()
    with torch.enable_grad():
        moved = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([moved], lr=LEARNING_RATE)
        for _ in range(ITERATIONS):
            # A sum over rows: each row's gradient, and so its path, depends on that row alone.
            (moved.grad,) = torch.autograd.grad(probe_loss(moved, probe, target).sum(), moved)
            optimiser.step()
    return moved.detach() - start


METHODS: dict[str, Callable[[Tensor, Probe, Tensor], Tensor]] = {
    "weights": weights_change,
    "pattern": pattern_change,
    "adam": adam_change,
}
"""Name -> (activations, probe, target) -> change at strength 1."""


def along(
    directions: Float[Tensor, "n c k"],
    residual: Float[Tensor, "n t k"],
    change: Float[Tensor, "n t c"],
) -> Change:
    """A change in other directions with the sign of ``residual`` and the norm of ``change`` at every token.

    ``directions`` holds one direction per row and channel of the target; ``residual`` is target minus reading.
    """
    return matched(residual @ directions.mT, change)


def matched(other: Float[Tensor, "n t c"], change: Float[Tensor, "n t c"]) -> Change:
    """The change ``other``, brought to the norm of ``change`` at every token."""
    size = other.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(other.dtype).tiny)
    scaled: Tensor = other / size * change.norm(dim=-1, keepdim=True)
    return scaled
