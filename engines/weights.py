"""Networks that have learned nothing: the same architecture with its weights permuted."""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel


def permuted(unet: UNet2DConditionModel, seed: int) -> UNet2DConditionModel:
    """A copy in which the entries of every weight tensor are permuted; biases stay (Chen et al. 2023)."""
    permuted = copy.deepcopy(unet)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in permuted.named_parameters():
            if not name.endswith("bias"):
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.flatten()[order].view_as(weight))
    return permuted


def reinitialised(unet: UNet2DConditionModel, seed: int) -> UNet2DConditionModel:
    """The architecture as it is before training: every weight and bias drawn anew."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = UNet2DConditionModel.from_config(unet.config)
    return fresh.requires_grad_(False).eval()
