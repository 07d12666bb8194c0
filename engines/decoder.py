"""Activations of the autoencoder's decoder between a latent and its image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engines.components import Components

LARGEST_SIDE = 64
"""Largest side of an activation, as in a UNet; larger ones are average-pooled to it."""


@torch.inference_mode()
def decoder_activations(
    parts: Components, latents: Float[Tensor, "n c h w"]
) -> dict[str, Float[Tensor, "n tokens channels"]]:
    """Outputs of the decoder's middle self-attention (``mid``, if it has one) and up blocks.

    Up blocks are numbered in the order of computation. The latents are scaled, as the denoiser
    takes them. What overflows fp16 is computed again in fp32.
    """
    outputs: dict[str, list[Tensor]] = {}
    with _recording(parts, outputs):
        parts.in_chunks(lambda z: (parts.decode_raw(z),), latents, parts.images_at_once)
    # The last chunk is padded at its end.
    found = {layer: torch.cat(chunks)[: len(latents)] for layer, chunks in outputs.items()}
    if parts.half_decoding and not all(bool(x.isfinite().all()) for x in found.values()):
        return decoder_activations(replace(parts, half_decoding=False), latents)
    return found


def pooled_size(height: int, width: int) -> tuple[int, int]:
    """The largest rows and columns of blocks that tile an image and keep its proportions.

    Neither is above ``LARGEST_SIDE``, unless the proportions alone are.
    """
    common = gcd(height, width)
    rows, columns = height // common, width // common
    most = max(1, LARGEST_SIDE // max(rows, columns))
    factor = next(factor for factor in range(most, 0, -1) if common % factor == 0)
    return rows * factor, columns * factor


@contextmanager
def _recording(parts: Components, outputs: dict[str, list[Tensor]]) -> Iterator[None]:
    decoder, pooled = parts.vae.decoder, pooled_size(*parts.image_size)
    order: dict[nn.Module, int] = {}

    def record(layer: str | None = None) -> object:
        def hook(module: nn.Module, _inputs: object, output: Tensor) -> None:
            name = layer or f"up{order.setdefault(module, len(order))}"
            if max(output.shape[-2:]) > LARGEST_SIDE:
                output = functional.adaptive_avg_pool2d(output, pooled)
            outputs.setdefault(name, []).append(output.flatten(2).mT.contiguous())

        return hook

    # An autoencoder without attention in its middle has a list of None, or an empty one.
    middle_block = getattr(decoder, "mid_block", None)
    middle = [layer for layer in getattr(middle_block, "attentions", ()) if layer is not None]
    handles = [layer.register_forward_hook(record("mid")) for layer in middle[:1]]
    # Some decoders compute their blocks from the last to the first.
    handles += [block.register_forward_hook(record()) for block in decoder.up_blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
