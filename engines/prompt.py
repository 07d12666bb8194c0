"""All text conditions of a UNet in one tensor: word embeddings and, for SDXL, added conditions.

SDXL's UNet also takes a pooled embedding of the prompt and six numbers, the image's sizes and crop.
They are the last rows of the text tensor, padded with zeros to its width, so that batches, guidance
and every engine handle one tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

SIZES = 6
"""Original height and width, crop top and left, target height and width, in pixels."""


def further_rows(config: Any) -> int:
    """Rows of the text tensor for the added conditions, from the UNet's configuration."""
    if not takes_added_conditions(config):
        return 0
    return -(-(pooled_width(config) + SIZES) // int(config.cross_attention_dim))


def takes_added_conditions(config: Any) -> bool:
    """Whether the UNet takes more than word embeddings, as SDXL's does."""
    return config.addition_embed_type is not None


def packed(
    words: Float[Tensor, "n words width"],
    pooled: Float[Tensor, "n pooled"],
    sizes: Float[Tensor, "n 6"],
) -> Float[Tensor, "n rows width"]:
    """Join the text conditions of SDXL into one text tensor."""
    rest = torch.cat([pooled, sizes.to(pooled)], dim=1)
    width = words.shape[-1]
    padded = torch.nn.functional.pad(rest, (0, -rest.shape[1] % width))
    return torch.cat([words, padded.unflatten(1, (-1, width))], dim=1)


def predict(unet: UNet2DConditionModel, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """The noise prediction of ``unet`` under all conditions in ``text``."""
    rows = further_rows(unet.config)
    if not rows:
        noise: Tensor = unet(latents, timestep, text).sample
        return noise
    rest, pooled = text[:, -rows:].flatten(1), pooled_width(unet.config)
    added = {"text_embeds": rest[:, :pooled], "time_ids": rest[:, pooled : pooled + SIZES]}
    noise = unet(latents, timestep, text[:, :-rows], added_cond_kwargs=added).sample
    return noise


def pooled_width(config: Any) -> int:
    """Width of the pooled prompt embedding, from the configuration of SDXL's UNet."""
    return int(config.projection_class_embeddings_input_dim) - SIZES * int(
        config.addition_time_embed_dim
    )
