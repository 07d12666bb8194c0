"""Architecture of the shipped model: SD v1's topology, small enough to train on one CPU core."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, LMSDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

IMAGE_SIDE = 64
LATENT_SIDE = 16
MAX_TOKENS = 24

_NORM_GROUPS = 8

SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
"""Stable Diffusion v1's noise schedule."""


def make_vae() -> AutoencoderKL:
    """Image 3 x 64 x 64 in -1..1 <-> latent 4 x 16 x 16."""
    blocks = 3
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=_NORM_GROUPS,
        sample_size=IMAGE_SIDE,
    )


def make_unet() -> UNet2DConditionModel:
    """A UNet whose sixteen self-attention layers have the module paths of Stable Diffusion v1."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=(32, 64, 96, 96),
        layers_per_block=2,
        attention_head_dim=4,
        cross_attention_dim=64,
        norm_num_groups=_NORM_GROUPS,
    )


def make_text_encoder(vocab_size: int, bos_token_id: int, eos_token_id: int) -> CLIPTextModel:
    """A two-layer CLIP text model; it is trained together with the UNet."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=64,
            intermediate_size=256,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            pad_token_id=eos_token_id,
        )
    )


def make_scheduler() -> LMSDiscreteScheduler:
    """The paper's sampler on Stable Diffusion's schedule."""
    return LMSDiscreteScheduler(**SCHEDULE)
