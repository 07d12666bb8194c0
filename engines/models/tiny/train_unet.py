"""Second stage: train UNet and text encoder on latents of rendered images and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from engines.models.tiny.architecture import make_scheduler, make_text_encoder, make_unet
from engines.models.tiny.training import train

STEPS = 3200
BATCH = 64
LEARNING_RATE = 1e-3
UNCONDITIONAL = 0.1
"""Share of examples with the empty prompt, so that guidance works."""
MIN_SNR_GAMMA = 5.0
"""Hang et al. 2023: the loss of a noise prediction is weighted by min(SNR, gamma) / SNR."""


class Denoiser(nn.Module):
    """UNet and text encoder as one module, for one optimiser and one average."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = make_unet()
        self.text_encoder: CLIPTextModel = make_text_encoder(
            len(tokenizer), int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        words = self.text_encoder(tokens).last_hidden_state
        noise: Tensor = self.unet(noisy, timesteps, words).sample
        return noise


def tokenize(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    """Token ids, padded to the model's length as in diffusers."""
    ids = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    assert isinstance(ids, Tensor)
    return ids


def mirrored(prompt: str) -> str:
    """The prompt of the mirror image: the light comes from the other side."""
    stem, _, side = prompt.rpartition(" ")
    return f"{stem} {'right' if side == 'left' else 'left'}"


def train_denoiser(
    latents: Tensor,
    flipped: Tensor,
    prompts: Sequence[str],
    tokenizer: CLIPTokenizer,
    work: Path,
    steps: int = STEPS,
) -> Denoiser:
    """Fit to scaled ``latents`` (n x 4 x 16 x 16) of images and ``flipped`` ones, mirrored."""
    torch.manual_seed(0)
    model = Denoiser(tokenizer)
    tokens = tokenize(tokenizer, prompts)
    flipped_tokens = tokenize(tokenizer, [mirrored(prompt) for prompt in prompts])
    empty = tokenize(tokenizer, [""])
    alphas = make_scheduler().alphas_cumprod
    weight = (MIN_SNR_GAMMA / (alphas / (1 - alphas))).clamp(max=1.0)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([20, step])
        picks = torch.from_numpy(rng.choice(len(latents), BATCH, replace=False))
        mirror = torch.from_numpy(rng.random(BATCH) < 0.5)
        drop = torch.from_numpy(rng.random(BATCH) < UNCONDITIONAL)
        timesteps = torch.from_numpy(rng.integers(0, len(alphas), BATCH))
        noise = torch.from_numpy(rng.standard_normal((BATCH, *latents.shape[1:]), dtype=np.float32))
        clean = torch.where(mirror[:, None, None, None], flipped[picks], latents[picks])
        ids = torch.where(mirror[:, None], flipped_tokens[picks], tokens[picks])
        ids = torch.where(drop[:, None], empty, ids)
        share = alphas[timesteps][:, None, None, None]
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        error = (model(noisy, timesteps, ids) - noise).square().mean((1, 2, 3))
        loss: Tensor = (weight[timesteps] * error).mean()
        return loss

    averaged = train(
        model,
        loss_of,
        steps=steps,
        learning_rate=LEARNING_RATE,
        checkpoint=work / "denoiser.pt",
        decay=0.9985,
    )
    assert isinstance(averaged, Denoiser)
    return averaged.eval()
