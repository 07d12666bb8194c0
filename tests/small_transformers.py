"""Small random pipelines of every family of transformers, as diffusers folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from transformers import CLIPTextConfig, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

ENGINES = Path(__file__).parents[1] / "engines"
SHIPPED = ENGINES / "models" / "tiny" / "weights"
ZOO = ENGINES / "zoo"
FLOW = "FlowMatchEulerDiscreteScheduler"


def _vae(channels: int, shift: float | None = None) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=1.3,
        shift_factor=shift,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _clip(width: int, projection: int, projected: bool = True) -> tuple[Any, CLIPTokenizer]:
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=24,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(config), tokenizer


def _t5(width: int) -> tuple[T5EncoderModel, T5Tokenizer]:
    tokenizer = T5Tokenizer.from_pretrained(ZOO / "dit-noise-0" / "tokenizer")
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return T5EncoderModel(config), tokenizer


def _sd3(dual: tuple[int, ...], t5: bool, norm: str | None) -> Any:
    first, second = _clip(8, 12), _clip(8, 12)
    text, words = _t5(32) if t5 else (None, None)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=24,
        pos_embed_max_size=12,
        dual_attention_layers=dual,
        qk_norm=norm,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(4, 0.06),
        text_encoder=first[0],
        tokenizer=first[1],
        text_encoder_2=second[0],
        tokenizer_2=second[1],
        text_encoder_3=text,
        tokenizer_3=words,
    )


def _flux(guidance: bool) -> Any:
    clip, t5 = _clip(16, 16, projected=False), _t5(32)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=guidance,
    )
    return diffusers.FluxPipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0 if guidance else 1.0, use_dynamic_shifting=guidance
        ),
        vae=_vae(4, 0.11),
        text_encoder=clip[0],
        tokenizer=clip[1],
        text_encoder_2=t5[0],
        tokenizer_2=t5[1],
    )


def _pixart(kind: type, sizes: bool) -> Any:
    t5 = _t5(32)
    transformer = diffusers.PixArtTransformer2DModel(
        # The published alpha of 1024 pixels reads the image's size; no other does.
        sample_size=128 if sizes else 8,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=32,
        use_additional_conditions=None if sizes else False,
        interpolation_scale=1,
    )
    return kind(
        transformer=transformer,
        scheduler=diffusers.DPMSolverMultistepScheduler(
            beta_start=0.0001, beta_end=0.02, beta_schedule="linear"
        ),
        vae=_vae(4),
        text_encoder=t5[0],
        tokenizer=t5[1],
    )


def _gemma_tokenizer() -> Any:
    pieces = [chr(code) for code in range(33, 127)]
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581", *pieces]
    return transformers.GemmaTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[]
    )


def _sana() -> Any:
    tokenizer = _gemma_tokenizer()
    text = transformers.Gemma2Model(
        transformers.Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=1024,
            bos_token_id=2,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
    transformer = diffusers.SanaTransformer2DModel(
        sample_size=16,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
    )
    vae = diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return diffusers.SanaPipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
    )


PIPELINES: dict[str, Callable[[], Any]] = {
    "sd3": lambda: _sd3((), t5=True, norm=None),
    "sd35": lambda: _sd3((0, 1), t5=False, norm="rms_norm"),
    "flux-dev": lambda: _flux(guidance=True),
    "flux-schnell": lambda: _flux(guidance=False),
    "pixart-alpha": lambda: _pixart(diffusers.PixArtAlphaPipeline, sizes=True),
    "pixart-sigma": lambda: _pixart(diffusers.PixArtSigmaPipeline, sizes=False),
    "sana": _sana,
}
"""Kind -> a random pipeline, always the same."""


def make(kind: str) -> Any:
    """A pipeline in evaluation mode, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        pipeline = PIPELINES[kind]()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(kind: str, folder: Path) -> Path:
    """Save a pipeline as diffusers does."""
    make(kind).save_pretrained(folder, safe_serialization=True)
    return folder
