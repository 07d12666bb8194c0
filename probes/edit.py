"""Edits that change activations so that a linear probe predicts a target, and their controls.

For activations x (tokens as rows) with the prediction p = x W + b and the target t, a method
computes the change d; an edit adds ``strength`` times d to x. At strength 1

    weights   d = (t - p) (W'W)^-1 W'
              is the smallest change after which the probe predicts t.
    pattern   d = (t - p) V',  V = S W (W'S W)^-1
              is the smallest such change in the Mahalanobis metric of the activations' covariance
              S. It follows how the activations vary with the prediction (Haufe et al. 2014).
    ridge-adam
              d is the result of 128 iterations of Adam on the loss of the ridge probe.

These use a ridge probe. The published procedure (Chen et al. 2023) has its own (``probes/adam.py``)
and is in ``probes/published_edit.py``. A control is a change of the same norm at every token in
another direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

LEARNING_RATE, ITERATIONS = 5e-3, 128
"""Of the published edit (Chen et al. 2023)."""
_RANK_TOLERANCE = 1e-10
"""Eigenvalues of W'SW below this share of the largest are those of directions without weights."""

Change = Float[Tensor, "n t c"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear probe with the statistics that edits need."""

    weights: Float[Tensor, "c k"]
    intercept: Float[Tensor, " k"]
    pattern: Float[Tensor, "c k"]
    threshold: float | None = None
    """Predictions above it are foreground; None for a probe that predicts numbers."""
    cv_loss: float = 1.0
    """Mean squared error of its predictions on held-out images."""

    def read(self, x: Float[Tensor, "n t c"]) -> Float[Tensor, "n t k"]:
        """The prediction of the probe."""
        prediction: Tensor = x @ self.weights + self.intercept
        return prediction

    def residual(
        self, x: Float[Tensor, "n t c"], target: Float[Tensor, "n t k"]
    ) -> Float[Tensor, "n t k"]:
        """Target minus prediction."""
        return target - self.read(x)


def activation_pattern(
    weights: Float[Tensor, "c k"], covariance: Float[Tensor, "c c"]
) -> Float[Tensor, "c k"]:
    """V = S W (W'S W)^-1, in float64; it does not depend on the scale of the covariance."""
    products = covariance @ weights
    # The pseudo-inverse gives a probe of zero weights a pattern of zero, not infinity. Weights for
    # the indicators of classes add up to zero but for rounding, which is no direction.
    inverse = torch.linalg.pinv(weights.mT @ products, hermitian=True, rtol=_RANK_TOLERANCE)
    pattern: Tensor = products @ inverse
    return pattern


def weights_change(
    x: Float[Tensor, "n t c"], probe: Probe, target: Float[Tensor, "n t k"]
) -> Change:
    """The smallest change after which the probe predicts the target."""
    change: Tensor = (target - probe.read(x)) @ torch.linalg.pinv(probe.weights)
    return change


def pattern_change(
    x: Float[Tensor, "n t c"], probe: Probe, target: Float[Tensor, "n t k"]
) -> Change:
    """The change along the activation pattern after which the probe predicts the target."""
    change: Tensor = (target - probe.read(x)) @ probe.pattern.mT
    return change


def probe_loss(
    x: Float[Tensor, "n t c"], probe: Probe, target: Float[Tensor, "n t k"]
) -> Float[Tensor, " n"]:
    """The loss of the published probes, a mean over tokens: cross-entropy of masks, else Huber.

    The least-squares prediction of a 0/1 target with residual variance v is a linear discriminant
    with log odds (prediction - threshold) / v.
    """
    prediction = probe.read(x)
    if probe.threshold is None:
        loss = functional.huber_loss(prediction, target, reduction="none")
    else:
        log_odds = (prediction - probe.threshold) / probe.cv_loss
        loss = functional.binary_cross_entropy_with_logits(log_odds, target, reduction="none")
    return loss.mean((-1, -2))


def adam_change(x: Float[Tensor, "n t c"], probe: Probe, target: Float[Tensor, "n t k"]) -> Change:
    """The change by Adam on :func:`probe_loss`; no row depends on the others of its batch."""
    start = x.detach()
    with torch.enable_grad():
        edited = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([edited], lr=LEARNING_RATE)
        for _ in range(ITERATIONS):
            # The loss is summed over rows, so a row's gradient depends on that row alone.
            (edited.grad,) = torch.autograd.grad(probe_loss(edited, probe, target).sum(), edited)
            optimiser.step()
    return edited.detach() - start


METHODS: dict[str, Callable[[Tensor, Probe, Tensor], Tensor]] = {
    "weights": weights_change,
    "pattern": pattern_change,
    "ridge-adam": adam_change,
}
"""Name -> (activations, ridge probe, target) -> change at strength 1."""


def along(
    directions: Float[Tensor, "n c k"],
    residual: Float[Tensor, "n t k"],
    change: Float[Tensor, "n t c"],
) -> Change:
    """A control along other directions, with the norm of ``change`` at every token.

    ``directions`` are one per row and channel of the target; ``residual``, which sets the sign, is
    target minus prediction.
    """
    return matched(residual @ directions.mT, change)


def matched(other: Float[Tensor, "n t c"], change: Float[Tensor, "n t c"]) -> Change:
    """The change ``other``, scaled to the norm of ``change`` at every token."""
    size = other.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(other.dtype).tiny)
    scaled: Tensor = other / size * change.norm(dim=-1, keepdim=True)
    return scaled
