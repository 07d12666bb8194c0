"""Stable Diffusion 2 and SDXL: taps of every self-attention, and trajectories of diffusers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import LMSDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from engines.backends.torch_eager import BACKEND
from engines.components import Components
from engines.families.unet.taps import self_attention_taps
from engines.load import load
from extract.trajectory import Step, denoise, initial_noise

PROMPTS = [
    "a red sphere on a sand floor with a blue wall and light from the left",
    "an orange cone",
]
SEEDS = [1234567, 89]
STEPS = 8
GUIDANCE = 5.0


def denoising_steps(parts: Components, cache: Path) -> list[Step]:
    engine = BACKEND.open(parts.denoiser, self_attention_taps(parts.denoiser.module), cache, 1)
    noise = initial_noise(SEEDS, parts.latent_shape)
    return list(
        denoise(
            engine, parts.sampler(STEPS), noise, parts.embed(PROMPTS), parts.embed([""]), GUIDANCE
        )
    )


def latents_of_diffusers(parts: Components, zeros: bool = True) -> Tensor:
    schedule = {key: value for key, value in parts.schedule.items() if not key.startswith("_")}
    for name in ("timestep_spacing", "interpolation_type"):
        schedule.pop(name, None)
    common = {
        "vae": parts.vae,
        "text_encoder": parts.parts["text_encoder"],
        "tokenizer": parts.parts["tokenizer"],
        "unet": parts.denoiser.module,
        "scheduler": LMSDiscreteScheduler(**schedule, timestep_spacing="linspace"),
        "feature_extractor": None,
    }
    if "text_encoder_2" not in parts.parts:
        pipeline = StableDiffusionPipeline(
            **common, safety_checker=None, requires_safety_checker=False
        )
    else:
        pipeline = StableDiffusionXLPipeline(
            **common,
            text_encoder_2=parts.parts["text_encoder_2"],
            tokenizer_2=parts.parts["tokenizer_2"],
            force_zeros_for_empty_prompt=zeros,
            add_watermarker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.cat(
        [torch.randn(1, *parts.latent_shape, generator=torch.manual_seed(seed)) for seed in SEEDS]
    )
    final: Tensor = pipeline(
        PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=latents,
        output_type="latent",
    ).images
    return final


@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_trajectories_end_where_diffusers_do(
    kind: str, small_models: dict[str, Path], cache: Path
) -> None:
    parts = load(small_models[kind])
    actual, reference = denoising_steps(parts, cache)[-1].latents, latents_of_diffusers(parts)
    assert float((actual - reference).norm() / reference.norm()) <= 1e-4
    # The prompts and the other inputs of SDXL matter far more than the tolerance.
    assert float((reference[0] - reference[1]).norm() / reference[0].norm()) > 0.1


def test_the_empty_prompt_is_encoded_if_the_model_was_trained_so(
    small_models: dict[str, Path], cache: Path
) -> None:
    parts = load(small_models["sdxl"])
    encoded = replace(parts, settings={**parts.settings, "zeros_if_empty": False})
    actual, reference = (
        denoising_steps(encoded, cache)[-1].latents,
        latents_of_diffusers(parts, zeros=False),
    )
    assert float((actual - reference).norm() / reference.norm()) <= 1e-4
    assert encoded.embed([""]) != parts.embed([""])


def test_every_self_attention_is_tapped_in_the_order_of_computation(
    small_models: dict[str, Path], cache: Path
) -> None:
    parts = load(small_models["sdxl"])
    taps = self_attention_taps(parts.denoiser.module)
    expected = (
        [f"down1.0.{k}" for k in range(2)]
        + [f"down2.0.{k}" for k in range(3)]
        + [f"mid.0.{k}" for k in range(3)]
    )
    expected += [f"up0.{a}.{k}" for a in range(2) for k in range(3)] + [
        f"up1.{a}.{k}" for a in range(2) for k in range(2)
    ]
    assert [tap.layer for tap in taps] == expected
    assert len(taps) == sum(
        name.endswith("attn1") for name, _ in parts.denoiser.module.named_modules()
    )
    assert list(denoising_steps(parts, cache)[0].prediction.taps) == expected


def test_images_have_the_size_of_the_latents(small_models: dict[str, Path]) -> None:
    for folder in small_models.values():
        parts = load(folder)
        assert parts.image_size == (64, 64)
        assert parts.decode(torch.zeros(1, *parts.latent_shape)).shape == (1, 3, 64, 64)
