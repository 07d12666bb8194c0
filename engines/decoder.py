"""What the autoencoder's decoder computes on its way from a latent to an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engines.components import Components

LARGEST_SIDE = 64
"""Tokens along one side of a decoder activation; larger ones are averaged to this, the largest grid of the UNet's."""


@torch.inference_mode()
def decoder_activations(
    parts: Components, latents: Float[Tensor, "n c h w"]
) -> dict[str, Float[Tensor, "n tokens channels"]]:
    """The decoder's bottleneck self-attention (``mid``) and the outputs of its up blocks, of scaled latents."""
    scale = float(parts.vae.config.scaling_factor)
    heard: dict[str, list[Tensor]] = {}
    with _listening(parts, heard):
        parts.padded(lambda z: parts.vae.decode(z / scale).sample, latents, parts.images_at_once)
    # The last chunk is padded; its surplus rows are at the end.
    return {layer: torch.cat(chunks)[: len(latents)] for layer, chunks in heard.items()}


@contextmanager
def _listening(parts: Components, heard: dict[str, list[Tensor]]) -> Iterator[None]:
    decoder = parts.vae.decoder

    def keep(layer: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if output.shape[-1] > LARGEST_SIDE:
                output = functional.adaptive_avg_pool2d(output, LARGEST_SIDE)
            heard.setdefault(layer, []).append(output.flatten(2).mT.contiguous().cpu())

        return hook

    modules = {"mid": decoder.mid_block.attentions[0]}
    modules |= {f"up{index}": block for index, block in enumerate(decoder.up_blocks)}
    handles = [module.register_forward_hook(keep(layer)) for layer, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
