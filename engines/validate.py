"""Validate a loaded model: find what the libraries notice only in use, or never."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from engines.errors import EngineError
from engines.prompt import further_rows, pooled_width, predict, takes_added_conditions

if TYPE_CHECKING:
    from engines.components import Components

_SIDE = 8
"""Side of the latents in a trial call: the smallest for a UNet of four levels."""
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


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises EngineError without one: the libraries would use defaults."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(
            f"cannot read {path} ({error}); fetch or export the model again"
        ) from error
    if not isinstance(content, dict):
        raise EngineError(f"{path} holds no JSON object; fetch or export the model again")
    return content


def read_configurations(folder: Path, double: bool) -> dict[str, Any]:
    """Check every part's configuration and return that of the noise schedule.

    ``double`` expects two text encoders. Raises EngineError for a missing configuration or
    vocabulary.
    """
    encoders = ("text_encoder", "text_encoder_2") if double else ("text_encoder",)
    for part in ("unet", "vae", *encoders):
        read_object(folder / part / "config.json")
    for part in (name.replace("text_encoder", "tokenizer") for name in encoders):
        tokenizer = folder / part
        if not (
            (tokenizer / "tokenizer.json").is_file()
            or all((tokenizer / name).is_file() for name in ("vocab.json", "merges.txt"))
        ):
            raise EngineError(
                f"{tokenizer} holds no vocabulary: it has no tokenizer.json; "
                "fetch or export the model again"
            )
    return read_object(folder / "scheduler" / "scheduler_config.json")


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


def unsupported_feature(parts: Components) -> str | None:
    """An unsupported feature of the model, as the end of a sentence about it, or None."""
    unet, vae = parts.unet.config, parts.vae.config
    if unet.in_channels != vae.latent_channels:
        return f"takes {unet.in_channels} channels where its autoencoder has {vae.latent_channels}"
    if (
        unet.class_embed_type is not None
        or unet.num_class_embeds is not None
        or unet.time_cond_proj_dim is not None
    ):
        return "takes a class or a strength of guidance as an input"
    if takes_added_conditions(unet) != (
        parts.text_encoder_2 is not None
    ) or unet.addition_embed_type not in (
        None,
        "text_time",
    ):
        return (
            f"reads {unet.addition_embed_type or 'nothing'} besides the words, "
            "which its text encoders do not give"
        )
    if parts.text_encoder_2 is not None and pooled_width(unet) != int(
        parts.text_encoder_2.config.projection_dim
    ):
        return "takes other numbers of the image than its sizes and its crop"
    if (
        getattr(vae, "latents_mean", None) is not None
        or getattr(vae, "shift_factor", None) is not None
    ):
        return "shifts the latents of its autoencoder"
    if parts.schedule.get("rescale_betas_zero_snr"):
        return (
            "is trained to a signal-to-noise ratio of zero, "
            "which the sampler (LMS) cannot start from"
        )
    return None


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
        # torch's own message names only types.
        raise ValueError(
            f"its scheduler_config.json holds no noise schedule that can be used ({error})"
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
    parts.vae.decode(latents / float(parts.vae.config.scaling_factor))
