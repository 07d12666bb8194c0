"""Published figures of GPUs, and what a plan assumes of them."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config import nearest
from bench.errors import MistakeError

UTILISATION = 0.35
"""Assumed share of the peak that a UNet's half-precision kernels reach at a batch of 16 rows: nothing was measured."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card."""

    name: str
    half_flops: float
    """Dense peak with fp16 inputs and fp32 sums, FLOP/s."""
    source: str


GPUS = {
    "h100": Gpu("H100 SXM", 989e12, "NVIDIA H100 datasheet, without sparsity"),
    "h200": Gpu("H200 SXM", 989e12, "NVIDIA H200 datasheet, without sparsity"),
    "a100": Gpu("A100 SXM 80GB", 312e12, "NVIDIA A100 datasheet"),
    "l4": Gpu("L4", 121e12, "NVIDIA L4 datasheet, without sparsity"),
    "t4": Gpu("T4", 65e12, "NVIDIA T4 datasheet"),
    "4090": Gpu("GeForce RTX 4090", 165.2e12, "NVIDIA Ada GPU architecture whitepaper"),
    "3090": Gpu("GeForce RTX 3090", 71e12, "NVIDIA GA102 GPU architecture whitepaper"),
}


def gpu_named(name: str) -> Gpu:
    """The card of that name. Raises MistakeError, with the nearest known name, if its figures are not known."""
    if name.lower() not in GPUS:
        raise MistakeError(f"the figures of GPU {name!r} are not known{nearest(name, tuple(GPUS))}")
    return GPUS[name.lower()]
