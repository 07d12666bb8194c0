"""Untrained networks of a denoiser's architecture: its weights permuted, or drawn anew."""

from __future__ import annotations

import copy
from typing import Any

import torch

from engines.denoiser import Denoiser


def permuted(denoiser: Denoiser, seed: int) -> Denoiser:
    """A copy with permuted entries in every weight tensor; biases are kept (Chen et al. 2023)."""
    network = copy.deepcopy(denoiser.module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if not name.endswith("bias"):
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.flatten()[order].view_as(weight))
    return denoiser.with_module(network)


def reinitialised(denoiser: Denoiser, seed: int) -> Denoiser:
    """The same architecture with every weight and bias drawn anew, as before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = type(denoiser.module)
        network = network.from_config(denoiser.config)
    return denoiser.with_module(network.requires_grad_(False).eval())
