"""Sizes of a UNet, its autoencoder and its text encoders: whether they are sizes, and fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engines.configurations import Configuration, side_of, text_configuration, whole
from engines.errors import EngineError
from engines.families.unet.conditions import pooled_width, takes_added_conditions
from engines.silence import silenced


def other_size(
    folder: Path, found: dict[str, Configuration], encoders: tuple[str, ...]
) -> str | None:
    """Why the sizes are not supported; None if they are. Sets every ``sample_size`` to one side.

    Raises EngineError for sizes that are none or do not fit one another.
    """
    unet, vae = found["unet"], found["vae"]
    unet["sample_size"] = side_of(unet["sample_size"], folder / "unet" / "config.json")
    for part, keys in (
        ("unet", ("in_channels", "out_channels", "cross_attention_dim")),
        ("vae", ("latent_channels", "in_channels", "out_channels")),
    ):
        for key in keys:
            whole(found[part][key], folder / part / "config.json", key)
    sides = vae["sample_size"]
    for side in sides if isinstance(sides, list | tuple) and len(sides) == 2 else [sides]:
        whole(side, folder / "vae" / "config.json", "sample_size")
    if not isinstance(sides, int):
        vae["sample_size"] = unet["sample_size"] << (len(vae["block_out_channels"]) - 1)
    if reason := _other_channels(SimpleNamespace(**unet), SimpleNamespace(**vae)):
        return reason
    with silenced():
        texts = [text_configuration(folder, part) for part in encoders]
    reads, added = SimpleNamespace(**unet), takes_added_conditions(SimpleNamespace(**unet))
    if added != (len(texts) == 2) or reads.addition_embed_type not in (None, "text_time"):
        return (
            f"reads {reads.addition_embed_type or 'nothing'} besides the words, "
            "which its text encoders do not give"
        )
    width = sum(int(text.hidden_size) for text in texts)
    if width != reads.cross_attention_dim:
        raise EngineError(
            f"the parts of the model in {folder} do not fit: its text "
            f"{'encoders give' if len(texts) == 2 else 'encoder gives'} words of width {width} "
            f"(hidden_size) where its UNet reads words of width {reads.cross_attention_dim} "
            "(cross_attention_dim); give parts of one model"
        )
    if added:
        for key in ("projection_class_embeddings_input_dim", "addition_time_embed_dim"):
            whole(unet[key], folder / "unet" / "config.json", key)
        if pooled_width(reads) != int(texts[1].projection_dim):
            return "takes other numbers of the image than its sizes and its crop"
    return None


def _other_channels(unet: Any, vae: Any) -> str | None:
    if unet.in_channels != vae.latent_channels:
        return f"takes {unet.in_channels} channels where its autoencoder has {vae.latent_channels}"
    if unet.out_channels != unet.in_channels:
        return f"gives {unet.out_channels} channels where it takes {unet.in_channels}"
    if (vae.in_channels, vae.out_channels) != (3, 3):
        return f"decodes images of {vae.out_channels} channels, where three are supported"
    if vae.latents_mean is not None or vae.latents_std is not None or vae.shift_factor is not None:
        return "shifts the latents of its autoencoder"
    return None
