"""Validate a loaded model: find what the libraries notice only in use, or never."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from engines.errors import EngineError

if TYPE_CHECKING:
    from engines.components import Components

_SIDE = 8
"""Side of the latents in a trial call: the smallest for a UNet of four levels."""
_QUOTE = 450
"""Characters of a library's message: a list of every weight would be longer."""


def quoted(error: Exception) -> str:
    """The whole message of a library's error in one line, as a part of a sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"[.!?]+ ", "; ", text).rstrip(".!? ")
    return textwrap.shorten(text, _QUOTE, placeholder=" ...")


def advice(error: Exception) -> str:
    """What to do about an error while reading files that are there and of a supported kind."""
    if isinstance(error, ImportError):
        return "install what it names"
    if isinstance(error, MemoryError) or "alloc" in str(error):
        return "free memory, or use a machine with more"
    if isinstance(error, PermissionError):
        return "make its files readable"
    return "fetch or export it again"


def require_complete(loaded: tuple[nn.Module, dict[str, Any]]) -> nn.Module:
    """Return the module. Raises ValueError if weights are missing: libraries would draw them."""
    module, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"the weights of {type(module).__name__} lack {missing[0]}")
    reshaped = sorted(str(name) for name, *_ in info.get("mismatched_keys", ()))
    if reshaped:
        raise ValueError(
            f"{reshaped[0]} of {type(module).__name__} has another shape than its config.json says"
        )
    return module


@torch.inference_mode()
def run_once(parts: Components) -> None:
    """Pass one empty prompt through every part, with small latents.

    Raises ValueError, or what the libraries raise.
    """
    _check_vocabularies(parts)
    small = replace(parts, latent_shape=(parts.latent_shape[0], _SIDE, _SIDE))
    try:
        sampler = small.sampler(2)
    except EngineError:
        raise
    except Exception as error:
        # torch's own message names only types, and then every signature.
        reason = textwrap.shorten(str(error), 120, placeholder=" ...")
        raise ValueError(
            f"its scheduler_config.json holds no noise schedule that can be used ({reason})"
        ) from error
    denoiser, dtype = small.denoiser, small.denoiser.dtype
    latents = torch.zeros(1, *small.latent_shape)
    predicted = denoiser(
        sampler.scaled(latents, 0).to(dtype),
        torch.tensor(1.0),
        small.embed([""]).to(denoiser.device, dtype),
    )
    image = small.decode_raw(sampler.step(predicted.float(), 0, latents))
    if image.shape[1:] != (3, *small.image_size):
        raise ValueError(
            f"its autoencoder makes {' x '.join(map(str, image.shape[2:]))} pixels of latents "
            f"of {_SIDE} x {_SIDE}, where {' x '.join(map(str, small.image_size))} follow from "
            "its block_out_channels"
        )


def _check_vocabularies(parts: Components) -> None:
    """Raise ValueError if a tokenizer gives longer texts or other words than its encoder reads."""
    for name in parts.family.tokenizers:
        encoder = parts.parts.get(name.replace("tokenizer", "text_encoder"))
        tokenizer = parts.parts.get(name)
        if tokenizer is None or encoder is None:
            continue
        length = getattr(encoder.config, "max_position_embeddings", None)
        vocabulary = encoder.config.vocab_size
        if length and not 2 < parts.most_tokens(name) <= length:
            raise ValueError(
                f"its tokenizer gives {tokenizer.model_max_length} words where {length} are read"
            )
        if not 2 < len(tokenizer) <= vocabulary:
            raise ValueError(
                f"its tokenizer knows {len(tokenizer)} words "
                f"where its text encoder knows {vocabulary}"
            )
