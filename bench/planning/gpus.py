"""Published peaks and memory of GPUs, and the share of them that a UNet reaches."""

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
    double_flops: float
    """Peak in float64, on matrix units where a card has them, FLOP/s."""
    gigabytes: int
    """Memory, in units of 1e9 bytes."""
    bandwidth: float
    """Of the memory, bytes per second."""
    source: str


GPUS = {
    "h100": Gpu(
        "H100 SXM", 989e12, 67e12, 67e12, 80, 3.35e12, "NVIDIA H100 datasheet, without sparsity"
    ),
    "h200": Gpu(
        "H200 SXM", 989e12, 67e12, 67e12, 141, 4.8e12, "NVIDIA H200 datasheet, without sparsity"
    ),
    "a100": Gpu("A100 SXM 80GB", 312e12, 19.5e12, 19.5e12, 80, 2.039e12, "NVIDIA A100 datasheet"),
    "l4": Gpu(
        "L4", 121e12, 30.3e12, 30.3e12 / 64, 24, 0.3e12, "NVIDIA L4 datasheet, without sparsity"
    ),
    "t4": Gpu("T4", 65e12, 8.1e12, 8.1e12 / 32, 16, 0.32e12, "NVIDIA T4 datasheet"),
    "4090": Gpu(
        "GeForce RTX 4090",
        165.2e12,
        82.6e12,
        82.6e12 / 64,
        24,
        1.008e12,
        "NVIDIA Ada architecture whitepaper",
    ),
    "3090": Gpu(
        "GeForce RTX 3090",
        71e12,
        35.6e12,
        35.6e12 / 64,
        24,
        0.936e12,
        "NVIDIA GA102 architecture whitepaper",
    ),
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

# Gram matrix of 32,768 x 320 in float64 in 0.25 ms on that GPU (RESULTS.md).
DOUBLE_SHARE = 2 * 32_768 * 320**2 / 0.25e-3 / GPUS[MEASURED].double_flops
"""Share of the published float64 peak: 40 %."""

_GB = 10**9


def gpu_named(name: str) -> Gpu:
    """The GPU of that name. Raises UserError, with the nearest name, if its peaks are unknown."""
    if name.lower() not in GPUS:
        raise UserError(f"the figures of GPU {name!r} are not known{nearest(name, tuple(GPUS))}")
    return GPUS[name.lower()]


def fits_on(gpu: Gpu, denoiser_bytes: int, model_bytes: int, tap_bytes: int) -> str:
    """Whether weights and the taps of one row, all in half precision, fit into a GPU's memory."""
    memory = gpu.gigabytes * _GB

    def said(weights: int) -> str:
        return "fit" if weights + tap_bytes <= memory else "do not fit"

    return (
        f"in fp16 the denoiser's weights ({denoiser_bytes / _GB:.1f} GB) and the taps of a row "
        f"({tap_bytes / _GB:.1f} GB) {said(denoiser_bytes)} into {gpu.gigabytes} GB; with text "
        f"encoders and autoencoder ({model_bytes / _GB:.1f} GB in all) they {said(model_bytes)}"
    )
