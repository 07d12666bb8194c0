"""Baseline: diffusers' pipeline in eager PyTorch with forward hooks that keep every activation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from bench.errors import UserError
from bench.study import Study
from datasets.items import Item
from extract.trajectory import initial_noise


@dataclass(frozen=True, slots=True)
class Kept:
    """Images, and the activations that the hooks kept."""

    images: list[Float[Tensor, "n 3 h w"]] = field(default_factory=list)
    activations: dict[str, list[Float[Tensor, "n tokens channels"]]] = field(default_factory=dict)
    """Per layer, the conditional half of every call, in order."""


def pipeline_of(study: Study) -> Any:
    """The model as diffusers' pipeline. Raises UserError for a family with several encoders."""
    parts = study.components
    what = "the baseline hooks is diffusers' pipeline of Stable Diffusion 1 and 2 with guidance"
    if len(parts.tokenizers) > 1:
        raise UserError(f"{what}, and the model has several text encoders; leave it out")
    if study.guidance is None:
        raise UserError(f"{what}, and the model runs without; leave it out, or give --guidance")
    # It warns of unneeded packages, scheduler settings and the missing safety checker.
    transformers_logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = parts.sampler(study.config.sampler_steps)
        pipeline = parts.family.pipeline(parts, sampler.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate_with_hooks(study: Study, pipeline: Any, items: Sequence[Item], at_once: int) -> Kept:
    """Generate and label the items in batches of ``at_once``; keep every tap of every step."""
    kept = Kept()

    def keep(layer: str) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            kept.activations.setdefault(layer, []).append(output[len(output) // 2 :].detach())

        return hook

    parts = study.components
    handles = [
        parts.denoiser.module.get_submodule(tap.path).register_forward_hook(keep(tap.layer))
        for tap in study.taps
    ]
    try:
        for start in range(0, len(items), at_once):
            chosen = items[start : start + at_once]
            images = pipeline(
                [item.prompt for item in chosen],
                latents=initial_noise([item.seed for item in chosen], parts.latent_shape),
                num_inference_steps=study.config.sampler_steps,
                guidance_scale=study.guidance,
                output_type="pt",
            ).images
            study.reader(images)
            kept.images.append(images)
    finally:
        for handle in handles:
            handle.remove()
    return kept
