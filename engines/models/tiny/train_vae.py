"""First stage: train the autoencoder on rendered images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from engines.models.tiny.architecture import make_vae
from engines.models.tiny.training import train

STEPS = 3000
BATCH = 8
LEARNING_RATE = 1.5e-3
KL_WEIGHT = 2e-4
"""Of the mean over latent entries; the reconstruction loss is a mean over pixels."""
EDGE_WEIGHT = 0.5


def images(rgb: np.ndarray, picks: np.ndarray) -> Tensor:
    """The images ``picks`` as floats in -1..1."""
    return torch.from_numpy(rgb[picks]).float() / 127.5 - 1


def train_vae(rgb: np.ndarray, work: Path, steps: int = STEPS) -> AutoencoderKL:
    """Fit an autoencoder to ``rgb`` (uint8, n x 3 x 64 x 64) and set its scaling factor."""
    torch.manual_seed(0)
    vae = make_vae()

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([10, step])
        x = images(rgb, np.sort(rng.choice(len(rgb), BATCH, replace=False)))
        if rng.random() < 0.5:
            x = x.flip(-1)
        torch.manual_seed(step)
        posterior = vae.encode(x).latent_dist
        error = vae.decode(posterior.sample()).sample - x
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss: Tensor = error.abs().mean() + EDGE_WEIGHT * edges + KL_WEIGHT * kl
        return loss

    averaged = train(
        vae, loss_of, steps=steps, learning_rate=LEARNING_RATE, checkpoint=work / "vae.pt"
    )
    assert isinstance(averaged, AutoencoderKL)
    averaged.eval()
    sample = encode(averaged, rgb[:1024])
    averaged.register_to_config(scaling_factor=round(float(1 / sample.std()), 5))
    return averaged


@torch.no_grad()
def encode(vae: AutoencoderKL, rgb: np.ndarray, batch: int = 32) -> Tensor:
    """Mean latents of all images, unscaled, n x 4 x 16 x 16."""
    parts = [
        vae.encode(images(rgb, np.arange(start, min(start + batch, len(rgb))))).latent_dist.mean
        for start in range(0, len(rgb), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def reconstruction_psnr_db(vae: AutoencoderKL, rgb: np.ndarray, batch: int = 32) -> float:
    """Mean peak signal-to-noise ratio of decode(encode(image)), in decibel."""
    scores = []
    for start in range(0, len(rgb), batch):
        x = images(rgb, np.arange(start, min(start + batch, len(rgb))))
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        mse = ((x - y) / 2).square().mean((1, 2, 3))
        scores.append(-10 * mse.log10())
    return float(torch.cat(scores).mean())
