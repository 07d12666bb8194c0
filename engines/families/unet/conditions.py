"""Embed prompts for a UNet: words of one or two CLIP encoders and, for XL, added conditions.

XL's UNet also takes a pooled embedding of the prompt and six numbers, the image's sizes and crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engines.conditioning import TEXT, Conditioning

if TYPE_CHECKING:
    from engines.components import Components

SIZES = 6
"""Original height and width, crop top and left, target height and width, in pixels."""


def embed(parts: Components, prompts: Sequence[str]) -> Conditioning:
    """The conditioning of ``prompts``, on the CPU."""
    if "text_encoder_2" not in parts.parts:
        return Conditioning({TEXT: _one_encoder(parts, prompts)})
    tokens = torch.stack(
        [
            token_ids(parts.parts["tokenizer"], prompts),
            token_ids(parts.parts["tokenizer_2"], prompts),
        ],
        dim=1,
    )
    words, pooled = parts.padded(lambda ids: _two_encoders(parts, ids), tokens)
    if parts.settings.get("zeros_if_empty"):
        empty = torch.tensor([not prompt for prompt in prompts])
        words[empty], pooled[empty] = 0.0, 0.0
    height, width = (float(pixels) for pixels in parts.image_size)
    sizes = torch.tensor([height, width, 0.0, 0.0, height, width]).expand(len(prompts), SIZES)
    return Conditioning({TEXT: words, "pooled": pooled, "sizes": sizes.clone()})


def _one_encoder(parts: Components, prompts: Sequence[str]) -> Tensor:
    encoder, tokenizer = parts.parts["text_encoder"], parts.parts["tokenizer"]
    (words,) = parts.padded(
        lambda ids: (encoder(ids).last_hidden_state,), token_ids(tokenizer, prompts)
    )
    return words


def _two_encoders(parts: Components, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Penultimate states of both encoders, and the pooled projection of the second."""
    first = parts.parts["text_encoder"](tokens[:, 0], output_hidden_states=True)
    second = parts.parts["text_encoder_2"](tokens[:, 1], output_hidden_states=True)
    words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    return words, second.text_embeds


def takes_added_conditions(config: Any) -> bool:
    """Whether the UNet takes more than word embeddings, as XL's does."""
    return config.addition_embed_type is not None


def pooled_width(config: Any) -> int:
    """Width of the pooled prompt embedding, from the configuration of XL's UNet."""
    return int(config.projection_class_embeddings_input_dim) - SIZES * int(
        config.addition_time_embed_dim
    )


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Padded token ids (n tokens); long prompts are cut."""
    tokens: Tensor = tokenizer(
        _expanded(tokenizer, prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return tokens


def _expanded(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """The prompts with all vectors of a word from a textual inversion, as diffusers says them.

    A word ``w`` of several vectors is stored as the words ``w``, ``w_1``, ``w_2`` and so on.
    """
    added = tokenizer.added_tokens_encoder
    if not any(f"{word}_1" in added for word in added):
        return list(prompts)
    from diffusers.loaders import TextualInversionLoaderMixin

    expanded: list[str] = TextualInversionLoaderMixin().maybe_convert_prompt(
        list(prompts), tokenizer
    )
    return expanded
