"""What a prompt tells a UNet, as one tensor: the embeddings of its words and, for SDXL, what else that UNet reads.

SDXL's UNet also takes one vector for the whole prompt and six numbers, the image's sizes and crop. They travel as the
last rows of the text tensor, filled with zeros to its width, so that batches, both halves of guidance and the inputs of
every engine carry them along.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

SIZES = 6
"""Height and width of the original, top and left of the crop, height and width of the target, in pixels."""


def further_rows(config: Any) -> int:
    """Rows of the text tensor that hold no word, by the UNet's configuration; 0 but for SDXL."""
    return (
        -(-(pooled_width(config) + SIZES) // int(config.cross_attention_dim))
        if takes_more(config)
        else 0
    )


def takes_more(config: Any) -> bool:
    """Whether the UNet reads more of a prompt than its words."""
    return config.addition_embed_type is not None


def packed(
    words: Float[Tensor, "n words width"],
    pooled: Float[Tensor, "n pooled"],
    sizes: Float[Tensor, "n 6"],
) -> Float[Tensor, "n rows width"]:
    """One text tensor of an SDXL prompt's parts."""
    rest = torch.cat([pooled, sizes.to(pooled)], dim=1)
    width = words.shape[-1]
    filled = torch.nn.functional.pad(rest, (0, -rest.shape[1] % width))
    return torch.cat([words, filled.unflatten(1, (-1, width))], dim=1)


def predict(unet: UNet2DConditionModel, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """The noise prediction of ``unet``, given all that ``text`` holds."""
    rows = further_rows(unet.config)
    if not rows:
        noise: Tensor = unet(latents, timestep, text).sample
        return noise
    rest, pooled = text[:, -rows:].flatten(1), pooled_width(unet.config)
    added = {"text_embeds": rest[:, :pooled], "time_ids": rest[:, pooled : pooled + SIZES]}
    noise = unet(latents, timestep, text[:, :-rows], added_cond_kwargs=added).sample
    return noise


def pooled_width(config: Any) -> int:
    """Width of the vector for the whole prompt, by the configuration of SDXL's UNet."""
    return int(config.projection_class_embeddings_input_dim) - SIZES * int(
        config.addition_time_embed_dim
    )
