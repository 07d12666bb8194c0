"""Stable Diffusion v1-4, the model of the paper, from the hub or a local diffusers folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import ModelSpec

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

MODEL = ModelSpec(
    source="CompVis/stable-diffusion-v1-4",
    guidance=7.5,
    labeler="midas",
    architecture=Path(__file__).parent / "architectures" / "sd-v1",
)
WORDS = 77
"""Tokens of a prompt, padded."""


def untrained() -> UNet2DConditionModel:
    """The UNet with random weights, for plans and timings without a download."""
    from diffusers import UNet2DConditionModel

    # CompVis/stable-diffusion-v1-4, unet/config.json: diffusers' defaults but for these two.
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return unet.requires_grad_(False).eval()
