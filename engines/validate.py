"""Validate a loaded model: find what the libraries notice only in use, or never."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from engines.prompt import further_rows, predict

if TYPE_CHECKING:
    from engines.components import Components

_SIDE = 8
"""Side of the latents in a trial call: the smallest for a UNet of four levels."""
_QUOTE = 450
"""Characters of a library's message: a list of every weight would be longer."""
_SILENT = 50
"""A level above all at which the libraries log."""


@contextmanager
def silenced() -> Iterator[None]:
    """Silence the libraries' logs: an EngineError reports their errors once."""
    libraries = diffusers_logging, transformers_logging
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity(_SILENT)
    try:
        yield
    finally:
        for library, level in zip(libraries, before, strict=True):
            library.set_verbosity(level)


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
    """Call every part once on tiny inputs. Raises ValueError, or what the libraries raise."""
    pairs = [(parts.tokenizer, parts.text_encoder), (parts.tokenizer_2, parts.text_encoder_2)]
    for tokenizer, encoder in pairs:
        if tokenizer is None or encoder is None:
            continue
        length, vocabulary = encoder.config.max_position_embeddings, encoder.config.vocab_size
        if not 2 < tokenizer.model_max_length <= length:
            raise ValueError(
                f"its tokenizer gives {tokenizer.model_max_length} words where {length} are read"
            )
        if not 2 < len(tokenizer) <= vocabulary:
            raise ValueError(
                f"its tokenizer knows {len(tokenizer)} words "
                f"where its text encoder knows {vocabulary}"
            )
        encoder(torch.zeros(1, 2, dtype=torch.long))
    try:
        scheduler = parts.scheduler(2)
    except Exception as error:
        # torch's own message names only types, and then every signature.
        reason = textwrap.shorten(str(error), 120, placeholder=" ...")
        raise ValueError(
            f"its scheduler_config.json holds no noise schedule that can be used ({reason})"
        ) from error
    latents = torch.zeros(1, parts.latent_shape[0], _SIDE, _SIDE)
    text = torch.zeros(
        1, 2 + further_rows(parts.unet.config), int(parts.unet.config.cross_attention_dim)
    )
    noise = predict(
        parts.unet,
        scheduler.scale_model_input(latents, scheduler.timesteps[0]),
        torch.tensor(1.0),
        text,
    )
    latents = scheduler.step(noise, scheduler.timesteps[0], latents).prev_sample
    image = parts.vae.decode(latents / float(parts.vae.config.scaling_factor)).sample
    side = parts.image_side * _SIDE // parts.latent_shape[1]
    if image.shape[1:] != (3, side, side):
        raise ValueError(
            f"its autoencoder makes {' x '.join(map(str, image.shape[2:]))} pixels of latents "
            f"of {_SIDE} x {_SIDE}, where {side} x {side} follow from its block_out_channels"
        )
