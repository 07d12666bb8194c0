"""The published edit: Adam on an activation until the published probe predicts a target.

Chen, Viegas and Wattenberg (2023) take 128 iterations of Adam on the loss of their probe per pixel,
of an activation x (tokens as rows, each optimised by itself). A probe of two classes depends on x
only through z = x (w1 - w0), that of a map only through z = x w. So with the derivative g of the
loss by z, the gradient of channel j is g w_j at every iteration, Adam's two averages are M w_j and
V w_j^2 with averages M of g and V of g^2, and its update is

    - rate M w_j / (|w_j| sqrt(V) + eps)  =  - rate sign(w_j) M / (sqrt(V) + eps / |w_j|):

all channels move by nearly the same amount, in the direction of the **signs** of the weights. Two
numbers per token are kept in place of two per channel, which is faster and exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.grid import Grid
from probes.adam import target_blocks
from probes.edit import ITERATIONS, LEARNING_RATE, Change

PUBLISHED = "published"
RANGE = 9.0
"""Maps that edits aim at are rescaled to -9..9, each image by its own minimum and maximum."""
_BETAS, _EPS = (0.9, 0.999), 1e-8
"""PyTorch's defaults."""


@dataclass(frozen=True, slots=True)
class PublishedProbe:
    """A probe of the published recipe: two classes of a mask, or one number."""

    weights: Float[Tensor, "c o"]

    @property
    def is_mask(self) -> bool:
        """Whether it has two classes."""
        return self.weights.shape[1] == 2

    @property
    def direction(self) -> Float[Tensor, " c"]:
        """What its loss depends on: the second class's weights minus the first's, or its own."""
        if self.is_mask:
            return self.weights[:, 1] - self.weights[:, 0]
        return self.weights[:, 0]

    def residual(
        self, x: Float[Tensor, "n t c"], target: Float[Tensor, "n t k"]
    ) -> Float[Tensor, "n t 1"]:
        """Target minus prediction, of the share of foreground or of the block's mean."""
        z = x @ self.direction
        if self.is_mask:
            return (target[..., 1] - z.sigmoid())[..., None]
        return (target.mean(-1) - z)[..., None]


def published_target(
    target: Float[Tensor, "n 1 h w"], grid: Grid, is_mask: bool
) -> Float[Tensor, "n t k"]:
    """The target of an edit by blocks, as :func:`probes.adam.target_blocks` has it.

    Maps are first rescaled to ``-RANGE..RANGE``; a constant map becomes 0.
    """
    values = target[:, 0].float()
    if not is_mask:
        low, high = values.amin((-1, -2), keepdim=True), values.amax((-1, -2), keepdim=True)
        span = torch.where(high > low, high - low, 1.0)
        values = torch.where(high > low, RANGE * (2 * (values - low) / span - 1), 0.0)
    return target_blocks(values, grid, is_mask)


def published_change(
    x: Float[Tensor, "n t c"], probe: PublishedProbe, target: Float[Tensor, "n t k"]
) -> Change:
    """The change by the published edit, for a target of :func:`published_target`."""
    w, tokens = probe.direction, x.shape[1]
    size, sign = w.abs(), w.sign()
    # No channel moves along a weight of zero: its eps / |w| is infinite.
    eps = _EPS / size
    start = x.detach() * sign
    edited = start.clone()
    scaled = torch.empty_like(edited)
    first = torch.zeros(*x.shape[:2], 1, dtype=x.dtype)
    second = torch.zeros_like(first)
    for iteration in range(1, ITERATIONS + 1):
        g = _derivative(edited @ size, target, probe.is_mask)[..., None] / tokens
        first.lerp_(g, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(g, g, value=1 - _BETAS[1])
        rate, unbiased = (
            LEARNING_RATE / (1 - _BETAS[0] ** iteration),
            (1 - _BETAS[1] ** iteration) ** 0.5,
        )
        torch.add(second.sqrt() / unbiased, eps, out=scaled)
        edited.addcdiv_(first.expand_as(scaled), scaled, value=-rate)
    return (edited - start) * sign


def _derivative(
    z: Float[Tensor, "n t"], target: Float[Tensor, "n t k"], is_mask: bool
) -> Float[Tensor, "n t"]:
    """The derivative of a token's loss: cross-entropy of a mask's shares, or Huber per pixel."""
    if is_mask:
        return z.sigmoid() - target[..., 1]
    return (z[..., None] - target).clamp(-1, 1).mean(-1)
