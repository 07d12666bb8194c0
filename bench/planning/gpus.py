"""Published figures of GPUs, and what a plan assumes of them."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config import nearest
from bench.errors import UserError

UTILISATION = 0.35
"""Assumed share of either peak that kernels reach at a batch of 16 rows: nothing was measured."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card."""

    name: str
    half_flops: float
    """Dense peak with fp16 inputs and fp32 sums, FLOP/s."""
    single_flops: float
    """Peak in fp32 without TF32, FLOP/s."""
    source: str


GPUS = {
    "h100": Gpu("H100 SXM", 989e12, 67e12, "NVIDIA H100 datasheet, without sparsity"),
    "h200": Gpu("H200 SXM", 989e12, 67e12, "NVIDIA H200 datasheet, without sparsity"),
    "a100": Gpu("A100 SXM 80GB", 312e12, 19.5e12, "NVIDIA A100 datasheet"),
    "l4": Gpu("L4", 121e12, 30.3e12, "NVIDIA L4 datasheet, without sparsity"),
    "t4": Gpu("T4", 65e12, 8.1e12, "NVIDIA T4 datasheet"),
    "4090": Gpu("GeForce RTX 4090", 165.2e12, 82.6e12, "NVIDIA Ada GPU architecture whitepaper"),
    "3090": Gpu("GeForce RTX 3090", 71e12, 35.6e12, "NVIDIA GA102 GPU architecture whitepaper"),
}


def gpu_named(name: str) -> Gpu:
    """The card of that name. Raises UserError, with the nearest known name, if its figures are not known."""
    if name.lower() not in GPUS:
        raise UserError(f"the figures of GPU {name!r} are not known{nearest(name, tuple(GPUS))}")
    return GPUS[name.lower()]


def times_on(gpu: Gpu, unet_flops: int, decoder_flops: int) -> str:
    """How long a run's networks take on a card, the UNets in either precision, as a sentence."""
    half, single = (flops * UTILISATION for flops in (gpu.half_flops, gpu.single_flops))
    return (
        f"{gpu.name}: UNets {unet_flops / half:.1f} s with an engine in fp16, {unet_flops / single:.1f} s with one in "
        f"fp32, and the decoder {decoder_flops / single:.1f} s, from {gpu.half_flops / 1e12:.0f} TFLOP/s in fp16 and "
        f"{gpu.single_flops / 1e12:.1f} in fp32 ({gpu.source}) and an assumed {UTILISATION:.0%} of them; labels and "
        "statistics are not in it"
    )
