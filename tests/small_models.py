"""Small random models of other architectures than the shipped one, as diffusers folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

SHIPPED = Path(__file__).parents[1] / "engines" / "models" / "tiny" / "weights"
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}


def save_sd1(folder: Path) -> Path:
    """Stable Diffusion 1: projections by convolutions, eight heads, noise prediction."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention_head_dim=8,
        cross_attention_dim=24,
        norm_num_groups=8,
    )
    text = CLIPTextModel(_text_config(24, 24))
    schedule = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1}
    return _save(folder, unet, _vae((16, 16, 16), 0.18215), schedule | SCHEDULE, text=text)


def save_sd2(folder: Path) -> Path:
    """Stable Diffusion 2: linear projections, heads by the level's width, v-prediction."""
    torch.manual_seed(2)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        attention_head_dim=(2, 4, 4, 4),
        cross_attention_dim=24,
        norm_num_groups=8,
        use_linear_projection=True,
    )
    text = CLIPTextModel(_text_config(24, 24))
    schedule = {
        "_class_name": "DDIMScheduler",
        "prediction_type": "v_prediction",
        "steps_offset": 1,
        **SCHEDULE,
    }
    return _save(folder, unet, _vae((16, 16, 16), 0.18215), schedule, text=text)


def save_sdxl(folder: Path) -> Path:
    """SDXL: two text encoders, no attention at the first level, several transformers at others."""
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2, 3),
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=40,
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        # 6 sizes of 8 channels and a pooled embedding of 36; 36 + 6 numbers take two rows of 40.
        projection_class_embeddings_input_dim=6 * 8 + 36,
    )
    schedule = {
        "_class_name": "EulerDiscreteScheduler",
        "timestep_spacing": "leading",
        "interpolation_type": "linear",
        "use_karras_sigmas": False,
        "steps_offset": 1,
        **SCHEDULE,
    }
    return _save(
        folder,
        unet,
        _vae((16, 16, 16, 16), 0.13025),
        schedule,
        text=CLIPTextModel(_text_config(16, 16)),
        second=CLIPTextModelWithProjection(_text_config(24, 36)),
    )


def _vae(widths: tuple[int, ...], scale: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        norm_num_groups=8,
        # Not the size of its images: SD 2's autoencoder also states a larger one.
        sample_size=256,
        scaling_factor=scale,
    )


def _text_config(width: int, projection: int) -> CLIPTextConfig:
    shipped = json.loads((SHIPPED / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    ids = {
        name: shipped[name]
        for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
    }
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=24,
        **ids,
    )


def _save(
    folder: Path,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    schedule: dict[str, Any],
    text: CLIPTextModel,
    second: CLIPTextModelWithProjection | None = None,
) -> Path:
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    shutil.copytree(SHIPPED / "tokenizer", folder / "tokenizer")
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline"}
    if second is not None:
        second.save_pretrained(folder / "text_encoder_2")
        shutil.copytree(SHIPPED / "tokenizer", folder / "tokenizer_2")
        index = {
            "_class_name": "StableDiffusionXLPipeline",
            "force_zeros_for_empty_prompt": True,
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps(schedule), encoding="utf-8"
    )
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
