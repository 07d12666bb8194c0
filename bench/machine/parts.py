"""Rates of autoencoder, text encoder and labelers: of the shipped model, and at full size."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bench.machine.clock import usual
from bench.machine.records import PartRates
from bench.model import components_of, model_spec
from bench.planning.estimate import interval_seconds
from bench.profiling.flops import decoding_flops, embedding_flops
from bench.registry import plugin
from bench.study import Study
from datasets.labeler import Reader
from engines.components import Components
from engines.cuda_stream import own_device
from engines.engine import ModelSpec

FULL_SIZE = "sd_v1"
_IMAGES = 4
_LATENT_SIDES = {"cpu": 16, "cuda": 64}
"""Sides of latents that are decoded at full size: fewer on a CPU, where an image takes long."""
LABELERS = ("tiny", "brightness")
"""Labelers that need no download."""
_INTERVAL_IMAGES = 371


def autoencoder_rates(
    study: Study, device: str, seconds: float, at_full_size: bool
) -> tuple[PartRates, ...]:
    """Decoders of the shipped model and, with random weights, of Stable Diffusion v1."""
    parts = study.components
    rates = [_decoding(study.config.model, parts, parts.latent_shape, device, seconds / 2)]
    if at_full_size:
        large = _without_weights()
        side = _LATENT_SIDES["cpu" if device == "cpu" else "cuda"]
        vae = type(large.vae).from_config(large.vae.config).requires_grad_(False).eval()
        drawn = _with_part(large, "vae", vae)
        rates.append(_decoding(FULL_SIZE, drawn, (4, side, side), device, seconds / 2))
    return tuple(rates)


def text_rates(
    study: Study, device: str, seconds: float, at_full_size: bool
) -> tuple[PartRates, ...]:
    """Text encoders of the shipped model and, with random weights, of Stable Diffusion v1."""
    rates = [_embedding(study.config.model, study.components, device, seconds / 2)]
    if at_full_size:
        large = _without_weights()
        encoder = large.parts["text_encoder"]
        drawn = type(encoder)(encoder.config).requires_grad_(False).eval()
        full = _with_part(large, "text_encoder", drawn)
        rates.append(_embedding(FULL_SIZE, full, device, seconds / 2))
    return tuple(rates)


def label_rates(study: Study, seconds: float) -> dict[str, float]:
    """Labeler -> seconds per pixel, on images of the shipped model's size."""
    height, width = study.components.image_size
    images = torch.rand(_IMAGES, 3, height, width, generator=torch.Generator().manual_seed(0))
    pixels = _IMAGES * height * width
    readers: dict[str, Reader] = {name: plugin("labeler", name).open() for name in LABELERS}
    each = seconds / len(readers)
    return {name: usual(partial(reader, images), each) / pixels for name, reader in readers.items()}


def bootstrap_rate() -> float:
    """Seconds per cell, metric and image of the intervals."""
    return interval_seconds(_INTERVAL_IMAGES) / _INTERVAL_IMAGES


def _decoding(
    name: str, parts: Components, shape: tuple[int, int, int], device: str, seconds: float
) -> PartRates:
    images = _IMAGES if max(shape[1:]) < 64 and name != FULL_SIZE else 1
    latents = torch.randn(images, *shape, generator=torch.Generator().manual_seed(0))
    vae: Any = parts.vae.to(own_device(device))
    try:
        # Timed until the images are on the CPU, as in a run.
        taken = usual(lambda: parts.decode(latents), seconds) / images
    finally:
        vae.to("cpu")
    return PartRates(name=name, flops=decoding_flops(parts.vae, shape), seconds=taken)


def _embedding(name: str, parts: Components, device: str, seconds: float) -> PartRates:
    encoder, tokens = parts.parts["text_encoder"], parts.family.lengths(parts)["text_encoder"]
    ids = torch.zeros(_IMAGES, tokens, dtype=torch.int64, device=own_device(device))
    encoder.to(own_device(device))
    try:
        with torch.inference_mode():
            taken = usual(lambda: encoder(input_ids=ids).last_hidden_state.cpu(), seconds)
    finally:
        encoder.to("cpu")
    return PartRates(name=name, flops=embedding_flops(encoder, tokens), seconds=taken / _IMAGES)


def _without_weights() -> Components:
    spec: ModelSpec = model_spec(FULL_SIZE)
    return components_of(spec.source, "random", drawn=False)


def _with_part(components: Components, name: str, part: Any) -> Components:
    return replace(components, parts={**components.parts, name: part})
