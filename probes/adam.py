"""Probes trained as by Chen, Viegas and Wattenberg (2023): Adam, 30 epochs, batches of four images.

No probe has an intercept. The probe of a mask predicts two classes and minimises the cross-entropy,
the probe of a map predicts one number and minimises the Huber loss. Predictions are upsampled to
the image's resolution (nearest neighbour) and the loss is taken per pixel. As they are constant on
a token's block of pixels, the same loss and gradient can be computed without upsampling: the
cross-entropy of a block is taken with the share of its pixels that are foreground, and the Huber
loss of a block is the mean over its pixels.

Source: the authors' scripts, github.com/yc015/scene-representation-diffusion-model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from datasets.grid import Grid
from probes.blocks import block_means, tiles_of

EPOCHS, BATCH, RATE, SEED = 30, 4, 1e-3, 100
"""Of the published training; the seed sets the initial weights and the order of the images."""
_BETAS, _EPS = (0.9, 0.999), 1e-8
"""PyTorch's defaults for Adam."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """The states of a probe after each of e epochs."""

    weights: Float[Tensor, "e c o"]
    train_loss: Float[Tensor, " e"]
    """Mean over the epoch's batches, each before its update."""

    def predict(self, activations: Float[Tensor, "n t c"]) -> Float[Tensor, "e n t o"]:
        """The probe's outputs after every epoch."""
        outputs: Tensor = torch.einsum("ntc,eco->ento", activations, self.weights)
        return outputs


def reading(prediction: Float[Tensor, "*b n t o"]) -> Float[Tensor, "*b n 1 t"]:
    """Outputs as one channel for scoring: of two classes, the second output minus the first."""
    if prediction.shape[-1] == 2:
        value = prediction[..., 1] - prediction[..., 0]
    else:
        value = prediction[..., 0]
    return value[..., None, :]


def new_probe(channels: int, is_mask: bool, seed: int = SEED) -> nn.Linear:
    """A probe with seeded initial weights; the state of the global generator does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(channels, 2 if is_mask else 1, bias=False)


def optimizer(probe: nn.Linear) -> torch.optim.Adam:
    """Adam with the published learning rate."""
    return torch.optim.Adam(probe.parameters(), lr=RATE)


def update(adam: torch.optim.Adam, loss: Tensor) -> float:
    """Take one optimiser step and return the loss before it."""
    adam.zero_grad()
    loss.backward()
    adam.step()
    return float(loss.detach())


def pixel_loss(prediction: Float[Tensor, "n t o"], target: Float[Tensor, "n h w"]) -> Tensor:
    """Mean loss over pixels of the upsampled prediction, as published."""
    grid = Grid.of(prediction.shape[1], *target.shape[-2:])
    coarse = prediction.mT.unflatten(-1, grid.shape)
    fine = functional.interpolate(coarse, size=target.shape[-2:], mode="nearest")
    if fine.shape[1] == 2:
        return functional.cross_entropy(fine, target.long())
    return functional.huber_loss(fine[:, 0], target)


def target_blocks(
    target: Float[Tensor, "n h w"], grid: Grid, is_mask: bool
) -> Float[Tensor, "n t k"]:
    """A target as :func:`block_loss` takes it: per block, a mask's class shares or the pixels."""
    if is_mask:
        share = block_means(target, grid).to(target.dtype)
        return torch.stack([1 - share, share], dim=-1)
    tiles = tiles_of(target, grid)
    pixels: Tensor = tiles.transpose(-3, -2).flatten(-2).flatten(-3, -2).contiguous()
    return pixels


def block_loss(prediction: Float[Tensor, "n t o"], blocks: Float[Tensor, "n t k"]) -> Tensor:
    """The value of :func:`pixel_loss`, from the result of :func:`target_blocks`."""
    if prediction.shape[-1] == 2:
        return functional.cross_entropy(prediction.flatten(0, 1), blocks.flatten(0, 1))
    return functional.huber_loss(prediction.expand_as(blocks), blocks)


def train(
    activations: Float[Tensor, "n t c"],
    blocks: Float[Tensor, "n t k"],
    is_mask: bool,
    epochs: int = EPOCHS,
    seed: int = SEED,
) -> Epochs:
    """Train a probe on n images, in a new seeded order in every epoch.

    The gradient of a linear probe is written out, which takes a quarter of the time of a graph.
    """
    weights = new_probe(activations.shape[-1], is_mask, seed).weight.detach().mT.contiguous()
    first, second, count = torch.zeros_like(weights), torch.zeros_like(weights), 0
    states, losses = [], []
    for batches in _orders(len(activations), epochs, seed):
        batch_losses = []
        for batch in batches:
            x, y = activations[batch].flatten(0, 1), blocks[batch].flatten(0, 1)
            loss, derivative = _loss_and_derivative(x @ weights, y, is_mask)
            gradient = x.mT @ derivative
            count += 1
            first.lerp_(gradient, 1 - _BETAS[0])
            second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            unbiased = second.sqrt().div_((1 - _BETAS[1] ** count) ** 0.5).add_(_EPS)
            weights.addcdiv_(first, unbiased, value=-RATE / (1 - _BETAS[0] ** count))
            batch_losses.append(loss)
        losses.append(torch.stack(batch_losses).mean())
        states.append(weights.clone())
    return Epochs(torch.stack(states), torch.stack(losses))


def _loss_and_derivative(
    z: Float[Tensor, "m o"], y: Float[Tensor, "m k"], is_mask: bool
) -> tuple[Tensor, Float[Tensor, "m o"]]:
    """The mean of :func:`block_loss` over m tokens, and its derivative by the outputs z."""
    if is_mask:
        log_p = z.log_softmax(-1)
        return -(y * log_p).sum() / len(z), (log_p.exp() - y) / len(z)
    gap = z - y
    within = gap.clamp(-1, 1)
    # Huber: half the square up to 1, then linear with slope 1.
    loss = (within * (gap - within / 2)).mean()
    return loss, within.mean(-1, keepdim=True) / len(z)


def _orders(images: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield torch.randperm(images, generator=generator).split(BATCH)
