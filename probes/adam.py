"""Probes fitted as Chen, Viegas and Wattenberg (2023) publish it: Adam, 30 epochs, four images at a time.

A mask's probe is two classes without an intercept and has a cross-entropy; a map's is one number with an intercept and
has a Huber loss. Predictions are upsampled NEAREST to the image's resolution and the loss is taken per pixel. They
are constant on the block of pixels that a token stands for, so the same loss, and the same gradient, come without
upsampling: a block's cross-entropy is that with the share of it that is foreground, and its Huber loss is the mean over
its pixels, each with its own error.

Source: their scripts, github.com/yc015/scene-representation-diffusion-model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from probes.blocks import block_means

EPOCHS, BATCH, RATE, SEED = 30, 4, 1e-3, 100
"""Of their Adam; the seed sets the first weights and the order of the images."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """A probe after each of e epochs."""

    weights: Float[Tensor, "e c o"]
    intercept: Float[Tensor, "e o"]
    train_loss: Float[Tensor, " e"]
    """Mean over the epoch's batches, each before its update."""

    def predict(self, activations: Float[Tensor, "n t c"]) -> Float[Tensor, "e n t o"]:
        """The probe's outputs after every epoch."""
        return (
            torch.einsum("ntc,eco->ento", activations, self.weights) + self.intercept[:, None, None]
        )


def reading(prediction: Float[Tensor, "*b n t o"]) -> Float[Tensor, "*b n 1 t"]:
    """Outputs as scores take them: of two classes, above 0 is where the second has the larger output."""
    value = (
        prediction[..., 1] - prediction[..., 0] if prediction.shape[-1] == 2 else prediction[..., 0]
    )
    return value[..., None, :]


def new_probe(channels: int, is_mask: bool, seed: int = SEED) -> nn.Linear:
    """A probe with its first weights, drawn without a trace in the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(channels, 2 if is_mask else 1, bias=not is_mask)


def optimizer(probe: nn.Linear) -> torch.optim.Adam:
    """Their Adam."""
    return torch.optim.Adam(probe.parameters(), lr=RATE)


def update(adam: torch.optim.Adam, loss: Tensor) -> float:
    """One step down, and the loss before it."""
    adam.zero_grad()
    loss.backward()
    adam.step()
    return float(loss.detach())


def pixel_loss(prediction: Float[Tensor, "n t o"], target: Float[Tensor, "n h w"]) -> Tensor:
    """Mean loss over pixels, by upsampling the prediction, as published."""
    side = isqrt(prediction.shape[1])
    coarse = prediction.mT.unflatten(-1, (side, side))
    fine = functional.interpolate(coarse, size=target.shape[-2:], mode="nearest")
    if fine.shape[1] == 2:
        return functional.cross_entropy(fine, target.long())
    return functional.huber_loss(fine[:, 0], target)


def seen_in_blocks(
    target: Float[Tensor, "n h w"], side: int, is_mask: bool
) -> Float[Tensor, "n t k"]:
    """All that :func:`block_loss` needs of a target: of a mask the two classes' shares of a block, else its pixels."""
    if is_mask:
        share = block_means(target, side).to(target.dtype)
        return torch.stack([1 - share, share], dim=-1)
    h, w = target.shape[-2:]
    tiles = target.unflatten(-1, (side, w // side)).unflatten(-3, (side, h // side))
    pixels: Tensor = tiles.transpose(-3, -2).flatten(-2).flatten(-3, -2).contiguous()
    return pixels


def block_loss(prediction: Float[Tensor, "n t o"], blocks: Float[Tensor, "n t k"]) -> Tensor:
    """The same as :func:`pixel_loss`, from what a target's blocks hold."""
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
    """Fit a probe to the activations of n images, in a seeded order of images that is new in every epoch."""
    probe = new_probe(activations.shape[-1], is_mask, seed)
    adam = optimizer(probe)
    weights, intercepts, losses = [], [], []
    for batches in _orders(len(activations), epochs, seed):
        seen = [
            update(adam, block_loss(probe(activations[batch]), blocks[batch])) for batch in batches
        ]
        losses.append(sum(seen) / len(seen))
        weights.append(probe.weight.detach().mT.clone())
        intercepts.append(
            torch.zeros(probe.out_features) if probe.bias is None else probe.bias.detach().clone()
        )
    return Epochs(torch.stack(weights), torch.stack(intercepts), torch.tensor(losses))


def _orders(images: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield torch.randperm(images, generator=generator).split(BATCH)
