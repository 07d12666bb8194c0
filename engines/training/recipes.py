"""The networks to train: architecture, text encoder, and the diffusers pipeline to save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engines.models.tiny.architecture import (
    LATENT_SIDE,
    MAX_TOKENS,
    SCHEDULE,
    make_scheduler,
    make_unet,
)
from engines.models.tiny.architecture import make_text_encoder as make_clip
from engines.models.tiny.words import make_tokenizer
from engines.training.latents import shipped_vae
from engines.training.objectives import TRAIN_TIMESTEPS, Objective, noise_prediction, rectified_flow
from engines.training.t5_words import make_t5_tokenizer

TEXT_WIDTH = 64


class Network(nn.Module, ABC):
    """A denoiser and its text encoder in one module, for one optimiser and one average."""

    tokenizer: Any

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Token ids, n x ``MAX_TOKENS``, padded as the pipeline pads them."""
        ids: Tensor = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=MAX_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids

    @abstractmethod
    def pipeline(self) -> Any:
        """The diffusers pipeline that holds this network."""


class UNetNetwork(Network):
    """The shipped model's UNet and CLIP text model (``StableDiffusionPipeline``)."""

    def __init__(self, prompts: Sequence[str], flow: bool) -> None:
        super().__init__()
        self.tokenizer, self.flow = make_tokenizer(prompts), flow
        self.unet = make_unet()
        self.text_encoder = make_clip(
            len(self.tokenizer), int(self.tokenizer.bos_token_id), int(self.tokenizer.eos_token_id)
        )

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        predicted: Tensor = self.unet(
            noisy, timestep, self.text_encoder(tokens).last_hidden_state
        ).sample
        return predicted

    def pipeline(self) -> Any:
        from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

        flow = DPMSolverMultistepScheduler(
            num_train_timesteps=TRAIN_TIMESTEPS,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=1.0,
            solver_order=1,
        )
        return StableDiffusionPipeline(
            vae=shipped_vae(),
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=flow if self.flow else make_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


class MMDiTNetwork(Network):
    """Joint attention over image and text tokens (``StableDiffusion3Pipeline``).

    One CLIP model serves as both text encoders of the pipeline.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        super().__init__()
        from diffusers import SD3Transformer2DModel
        from transformers import CLIPTextModelWithProjection

        self.tokenizer = make_tokenizer(prompts)
        clip = make_clip(
            len(self.tokenizer), int(self.tokenizer.bos_token_id), int(self.tokenizer.eos_token_id)
        )
        self.text_encoder = CLIPTextModelWithProjection(clip.config)
        self.transformer = SD3Transformer2DModel(
            sample_size=LATENT_SIDE,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=8,
            num_attention_heads=7,
            attention_head_dim=16,
            caption_projection_dim=7 * 16,
            joint_attention_dim=2 * TEXT_WIDTH,
            pooled_projection_dim=2 * TEXT_WIDTH,
            pos_embed_max_size=LATENT_SIDE // 2,
            qk_norm="rms_norm",
        )

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        encoded = self.text_encoder(tokens, output_hidden_states=True)
        words, pooled = encoded.hidden_states[-2], encoded.text_embeds
        words = torch.cat([words, words], dim=-1)
        # The pipeline replaces the missing T5 encoder's tokens by as many zero tokens.
        words = torch.cat([words, torch.zeros_like(words)], dim=1)
        predicted: Tensor = self.transformer(
            hidden_states=noisy,
            timestep=timestep,
            encoder_hidden_states=words,
            pooled_projections=torch.cat([pooled, pooled], dim=-1),
        ).sample
        return predicted

    def pipeline(self) -> Any:
        from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

        vae = shipped_vae()
        vae.register_to_config(shift_factor=0.0)
        return StableDiffusion3Pipeline(
            transformer=self.transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(
                num_train_timesteps=TRAIN_TIMESTEPS, shift=1.0
            ),
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            text_encoder_2=self.text_encoder,
            tokenizer_2=self.tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
        )


class CrossAttentionDiTNetwork(Network):
    """Self-attention on image tokens, cross-attention to T5's words (``PixArtAlphaPipeline``)."""

    def __init__(self, prompts: Sequence[str]) -> None:
        super().__init__()
        from diffusers import PixArtTransformer2DModel
        from transformers import T5Config, T5EncoderModel

        self.tokenizer = make_t5_tokenizer(prompts)
        self.text_encoder = T5EncoderModel(
            T5Config(
                vocab_size=len(self.tokenizer),
                d_model=TEXT_WIDTH,
                d_kv=16,
                d_ff=4 * TEXT_WIDTH,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
                decoder_start_token_id=self.tokenizer.pad_token_id,
            )
        )
        self.transformer = PixArtTransformer2DModel(
            sample_size=LATENT_SIDE,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=8,
            num_attention_heads=9,
            attention_head_dim=16,
            cross_attention_dim=9 * 16,
            caption_channels=TEXT_WIDTH,
            use_additional_conditions=False,
        )

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        mask = (tokens != self.tokenizer.pad_token_id).long()
        words = self.text_encoder(tokens, attention_mask=mask).last_hidden_state
        predicted: Tensor = self.transformer(
            noisy,
            encoder_hidden_states=words,
            encoder_attention_mask=mask,
            timestep=timestep,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        return predicted

    def pipeline(self) -> Any:
        from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline

        return PixArtAlphaPipeline(
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder,
            vae=shipped_vae(),
            transformer=self.transformer,
            scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network and its training target."""

    make: Callable[[Sequence[str]], Network]
    objective: Objective


RECIPES = {
    "unet-noise": Recipe(lambda prompts: UNetNetwork(prompts, flow=False), noise_prediction),
    "unet-flow": Recipe(lambda prompts: UNetNetwork(prompts, flow=True), rectified_flow),
    "mmdit-flow": Recipe(MMDiTNetwork, rectified_flow),
    "dit-noise": Recipe(CrossAttentionDiTNetwork, noise_prediction),
}
