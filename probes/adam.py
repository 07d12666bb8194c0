"""Probes trained as by Chen, Viegas and Wattenberg (2023): Adam, 30 epochs, batches of four images.

The probe of a mask predicts two classes without an intercept and minimises the cross-entropy. The
probe of a map predicts one number with an intercept and minimises the Huber loss. Predictions are
upsampled to the image's resolution (nearest neighbour) and the loss is taken per pixel. As they are
constant on a token's block of pixels, the same loss and gradient can be computed without
upsampling: the cross-entropy of a block is taken with the share of its pixels that are foreground,
and the Huber loss of a block is the mean over its pixels.

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


@dataclass(frozen=True, slots=True)
class Epochs:
    """The states of a probe after each of e epochs."""

    weights: Float[Tensor, "e c o"]
    intercept: Float[Tensor, "e o"]
    train_loss: Float[Tensor, " e"]
    """Mean over the epoch's batches, each before its update."""

    def predict(self, activations: Float[Tensor, "n t c"]) -> Float[Tensor, "e n t o"]:
        """The probe's outputs after every epoch."""
        outputs = torch.einsum("ntc,eco->ento", activations, self.weights)
        return outputs + self.intercept[:, None, None]


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
        return nn.Linear(channels, 2 if is_mask else 1, bias=not is_mask)


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
    """Train a probe on n images, in a new seeded order in every epoch."""
    probe = new_probe(activations.shape[-1], is_mask, seed)
    adam = optimizer(probe)
    weights, intercepts, losses = [], [], []
    for batches in _orders(len(activations), epochs, seed):
        batch_losses = [
            update(adam, block_loss(probe(activations[batch]), blocks[batch])) for batch in batches
        ]
        losses.append(sum(batch_losses) / len(batch_losses))
        weights.append(probe.weight.detach().mT.clone())
        intercepts.append(
            torch.zeros(probe.out_features) if probe.bias is None else probe.bias.detach().clone()
        )
    return Epochs(torch.stack(weights), torch.stack(intercepts), torch.tensor(losses))


def _orders(images: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield torch.randperm(images, generator=generator).split(BATCH)
