"""The components of a latent diffusion model, and the device that they compute on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, LMSDiscreteScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines.configurations import SAMPLER_KEYS
from engines.cuda_stream import full_fp32
from engines.prompt import SIZES, packed

DECODE_BATCH = 4
"""Images decoded, or prompts embedded, at once; padded to this, so that no batch changes a bit."""

_SMALL_PIXELS = 1 << 14
"""Larger images are decoded one by one: one keeps all cores busy, and four take gigabytes."""


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a latent diffusion model.

    They are on the CPU until ``send``; inputs and outputs of the methods are on the CPU always.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    schedule: dict[str, Any]
    """Configuration of the noise schedule, as diffusers schedulers take it."""
    text_encoder_2: CLIPTextModelWithProjection | None = None
    """The second one of SDXL."""
    tokenizer_2: CLIPTokenizer | None = None
    zeros_if_empty: bool = False
    """Whether an empty prompt is embedded as zeros (``force_zeros_for_empty_prompt``)."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Folder name -> component with weights."""
        first = {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder}
        return (
            first
            if self.text_encoder_2 is None
            else first | {"text_encoder_2": self.text_encoder_2}
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        side = int(self.unet.config.sample_size)
        return int(self.unet.config.in_channels), side, side

    @property
    def image_side(self) -> int:
        """Pixels along one side: every block of the autoencoder but the last halves it."""
        return self.latent_shape[1] << (len(self.vae.config.block_out_channels) - 1)

    @property
    def images_at_once(self) -> int:
        """Images decoded or encoded together."""
        return DECODE_BATCH if self.image_side**2 <= _SMALL_PIXELS else 1

    def scheduler(self, steps: int) -> LMSDiscreteScheduler:
        """The paper's sampler, set to ``steps`` steps."""
        scheduler = LMSDiscreteScheduler(
            **{key: self.schedule[key] for key in SAMPLER_KEYS if key in self.schedule},
            timestep_spacing="linspace",
        )
        scheduler.set_timesteps(steps)
        return scheduler

    def send(self, device: torch.device) -> None:
        """Move all components but the UNet, which engines execute, to ``device``."""
        if device.type == "cuda":
            full_fp32()
        for name, part in self.networks.items():
            if name != "unet":
                part.to(device)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "n words width"]:
        """Text embeddings; prompts are truncated to the tokenizer's length, as diffusers does.

        For SDXL, further rows hold the added conditions; see engines/prompt.py.
        """
        tokens = _tokens(self.tokenizer, prompts)
        if self.text_encoder_2 is None:
            return self.padded(lambda ids: self.text_encoder(ids).last_hidden_state, tokens)
        text = self.padded(
            self._embed_twice, torch.stack([tokens, _tokens(self.tokenizer_2, prompts)], dim=1)
        )
        if self.zeros_if_empty:
            empty = torch.tensor([not prompt for prompt in prompts])
            words = torch.zeros_like(text[:, : tokens.shape[1]])
            pooled = torch.zeros(len(text), int(self.text_encoder_2.config.projection_dim))
            text[empty] = packed(words, pooled, self._sizes(len(text)))[empty]
        return text

    def _embed_twice(self, tokens: Tensor) -> Tensor:
        """SDXL's text tensor: penultimate states of both encoders, pooled projection, and sizes."""
        assert self.text_encoder_2 is not None
        first = self.text_encoder(tokens[:, 0], output_hidden_states=True)
        second = self.text_encoder_2(tokens[:, 1], output_hidden_states=True)
        words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return packed(words, second.text_embeds, self._sizes(len(tokens)))

    def _sizes(self, n: int) -> Tensor:
        """SDXL's sizes and crop of ``n`` uncropped images."""
        side = float(self.image_side)
        return torch.tensor([side, side, 0.0, 0.0, side, side]).expand(n, SIZES)

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 height width"]:
        """Decode scaled latents to images in 0..1."""
        scale = float(self.vae.config.scaling_factor)
        return self.padded(
            lambda z: (self.vae.decode(z / scale).sample / 2 + 0.5).clamp(0, 1),
            latents,
            self.images_at_once,
        )

    @torch.inference_mode()
    def encode(self, images: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n c h w"]:
        """Encode images in 0..1 to scaled mean latents."""
        scale = float(self.vae.config.scaling_factor)
        return self.padded(
            lambda x: self.vae.encode(x * 2 - 1).latent_dist.mean * scale,
            images,
            self.images_at_once,
        )

    def padded(
        self, call: Callable[[Tensor], Tensor], rows: Tensor, at_once: int = DECODE_BATCH
    ) -> Tensor:
        """Apply ``call``, on the components' device, to chunks of exactly ``at_once`` rows.

        The last chunk is padded with copies of its last row.
        """
        parts = []
        for start in range(0, len(rows), at_once):
            chunk = rows[start : start + at_once]
            short = at_once - len(chunk)
            full = (
                torch.cat([chunk, chunk[-1:].expand(short, *chunk.shape[1:])]) if short else chunk
            )
            parts.append(call(full.to(self.vae.device))[: len(chunk)].cpu())
        return torch.cat(parts)


def _tokens(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    tokens: Tensor = tokenizer(
        _expanded(tokenizer, prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return tokens


def _expanded(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> list[str]:
    """The prompts with all vectors of a word from a textual inversion, as diffusers says them.

    A word ``w`` of several vectors is stored as the words ``w``, ``w_1``, ``w_2`` and so on.
    """
    added = tokenizer.added_tokens_encoder
    if not any(f"{word}_1" in added for word in added):
        return list(prompts)
    from diffusers.loaders import TextualInversionLoaderMixin

    expanded: list[str] = TextualInversionLoaderMixin().maybe_convert_prompt(
        list(prompts), tokenizer
    )
    return expanded
