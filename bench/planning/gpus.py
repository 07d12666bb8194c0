"""Published peaks of GPUs, and the share of them that a UNet reaches."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config import nearest
from bench.errors import UserError


@dataclass(frozen=True, slots=True)
class Gpu:
    """Published figures of a GPU."""

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

MEASURED = "h100"
"""The GPU on which the shares below were measured."""
# Stable Diffusion v1's UNet with all taps, PyTorch, 16 rows per call, on that GPU: 242.9 TFLOP/s in
# fp16 and 33.0 in fp32 without TF32 (RESULTS.md, "On an NVIDIA H100"). Of the rate of its own
# matrix products on random data this is 32.5 % and 64.1 %; plans use published peaks instead,
# since these are known of every GPU.
HALF_SHARE = 242.9e12 / GPUS[MEASURED].half_flops
"""Share of the published dense fp16 peak: 25 %."""
SINGLE_SHARE = 33.0e12 / GPUS[MEASURED].single_flops
"""Share of the published fp32 peak: 49 %. Assumed for the decoder as well."""


def gpu_named(name: str) -> Gpu:
    """The GPU of that name. Raises UserError, with the nearest name, if its peaks are unknown."""
    if name.lower() not in GPUS:
        raise UserError(f"the figures of GPU {name!r} are not known{nearest(name, tuple(GPUS))}")
    return GPUS[name.lower()]


def times_on(gpu: Gpu, unet_flops: int, decoder_flops: int) -> str:
    """Two lines: the time of a run's networks on a GPU, in either precision, and its basis."""
    half, single = gpu.half_flops * HALF_SHARE, gpu.single_flops * SINGLE_SHARE
    basis = "measured on this GPU" if gpu is GPUS[MEASURED] else "measured on an H100, assumed here"
    return (
        f"{gpu.name}: UNets {unet_flops / half:.1f} s in fp16 or {unet_flops / single:.1f} s in "
        f"fp32, decoder {decoder_flops / single:.1f} s; labels and statistics not included\n"
        f"from {gpu.half_flops / 1e12:.0f} TFLOP/s in fp16 and {gpu.single_flops / 1e12:.1f} in "
        f"fp32 ({gpu.source}), of which a UNet reaches {HALF_SHARE:.0%} and {SINGLE_SHARE:.0%} "
        f"({basis}; the decoder's share is assumed)"
    )
