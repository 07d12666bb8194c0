"""Untrained networks of a UNet's architecture: its weights permuted, or drawn anew."""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel


def permuted(unet: UNet2DConditionModel, seed: int) -> UNet2DConditionModel:
    """A copy with permuted entries in every weight tensor; biases are kept (Chen et al. 2023)."""
    network = copy.deepcopy(unet)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if not name.endswith("bias"):
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.flatten()[order].view_as(weight))
    return network


def reinitialised(unet: UNet2DConditionModel, seed: int) -> UNet2DConditionModel:
    """The same architecture with every weight and bias drawn anew, as before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet2DConditionModel.from_config(unet.config)
    return network.requires_grad_(False).eval()
