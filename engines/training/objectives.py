"""Training targets of a denoiser: noise on Stable Diffusion's schedule, or a flow's velocity."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engines.models.tiny.architecture import make_scheduler

MIN_SNR_GAMMA = 5.0
"""Hang et al. 2023: the loss of a noise prediction is weighted by min(SNR, gamma) / SNR."""
TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True, slots=True)
class Example:
    """A noised batch: what the network reads, its target, and a weight per example."""

    noisy: Float[Tensor, "n 4 h w"]
    timestep: Float[Tensor, " n"]
    target: Float[Tensor, "n 4 h w"]
    weight: Float[Tensor, " n"]


Objective = Callable[[Tensor, Tensor, Tensor], Example]
"""(clean latents, noise, a standard normal number per example) -> Example."""


@functools.cache
def _alphas_cumprod(device: torch.device) -> Tensor:
    alphas: Tensor = make_scheduler().alphas_cumprod.to(device)
    return alphas


def noise_prediction(clean: Tensor, noise: Tensor, draw: Tensor) -> Example:
    """Predict the noise at uniformly drawn timesteps, weighted by min-SNR."""
    kept = _alphas_cumprod(clean.device)
    uniform = torch.special.ndtr(draw)
    timestep = (uniform * len(kept)).long().clamp(max=len(kept) - 1)
    share = kept[timestep]
    weight = (MIN_SNR_GAMMA * (1 - share) / share).clamp(max=1.0)
    share = share[:, None, None, None]
    return Example(
        share.sqrt() * clean + (1 - share).sqrt() * noise, timestep.float(), noise, weight
    )


def rectified_flow(clean: Tensor, noise: Tensor, draw: Tensor) -> Example:
    """Predict noise minus clean between the two, at logit-normal times (Esser et al. 2024)."""
    sigma = draw.sigmoid()
    share = sigma[:, None, None, None]
    noisy = (1 - share) * clean + share * noise
    return Example(noisy, sigma * TRAIN_TIMESTEPS, noise - clean, torch.ones_like(sigma))
