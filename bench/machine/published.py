"""Rates of a card that nobody measured: published peaks, and what is assumed besides."""

from __future__ import annotations

from typing import Literal

from bench.machine.curve import Curve
from bench.machine.stages import Rates
from bench.planning.gpus import DOUBLE_SHARE, GPUS, HALF_SHARE, MEASURED, SINGLE_SHARE, Gpu
from probes.accumulate import DRAWS
from probes.ridge import PENALTIES

Precision = Literal["fp16", "fp32"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32")
_VALUE_BYTES = {"fp16": 2, "fp32": 4}
_PROBES_PER_SITE = 2 * (3 + DRAWS)
"""Columns that are predicted from a site of the trained network by two tasks with one channel."""

# Measured on an NVIDIA H100 and its machine (RESULTS.md, "On an NVIDIA H100").
EIGENPROBLEMS = ((334.0, 0.0033), (666.0, 0.0074), (1294.0, 0.0157))
"""(columns, seconds) of one symmetric eigenproblem in float64."""
TO_HOST = 47.3 * 2**30
"""Bytes per second through page-locked memory."""
STORING = 6.55 / (16.42 * 2**30 / 11)
"""Seconds per byte of a shard: 6.55 s for each of 11, of 16.42 GiB in all, when a run waited for
the disk."""
OPENING = 41.2 / 2 / 859.5e6
"""Seconds per parameter: two denoisers of Stable Diffusion v1, with random weights."""
INTERVAL = 5.19e-5 / 371
"""Seconds per cell, metric and image: 5.19e-5 s per cell and metric of 371 images."""
# Counted from the operations of each value, and assumed to be limited by the card's memory.
BANDWIDTH_SHARE = 0.6
"""Share of the published bandwidth that operations on single values reach."""
PASSES = 6
"""Times that an activation is read or written to join, check and keep it."""
SCORE_BYTES = {"saliency": 1000, "depth": 1500}
"""Read and written per cell, image and token: sorting takes a quarter of it."""
TARGET_BYTES = {"saliency": 100, "depth": 1500}
"""Read and written per pixel of a target."""
SWEEP_BYTES = 49 * 5 * 8
"""Five numbers per candidate threshold."""


def published_rates(gpu: Gpu, precision: Precision) -> Rates:
    """Rates of a run on a card in one of the precisions of an engine."""
    peak = gpu.half_flops * HALF_SHARE if precision == "fp16" else gpu.single_flops * SINGLE_SHARE
    single = Curve(((1.0, gpu.single_flops * SINGLE_SHARE),))
    double = gpu.double_flops * DOUBLE_SHARE

    def products(of_one: float, of_thousand: float) -> Curve:
        """Seconds of products that grow with a power of the width."""
        return Curve(((1.0, of_one / double), (1000.0, of_thousand / double)), extrapolated=True)

    reads = 2 * _PROBES_PER_SITE
    # Two products of c x c with a column, for the weights and for their losses, per penalty.
    solves = 2 * len(PENALTIES) * 2
    byte = 1 / (gpu.bandwidth * BANDWIDTH_SHARE)
    return Rates(
        name=f"{gpu.name}, {precision}",
        network=Curve(((1.0, peak),)),
        autoencoder=Curve(((1.0, peak),)),
        text=single,
        opening=lambda parameters: OPENING * parameters,
        sums=products(2, 2e6),
        reads=products(reads, reads * 1e3),
        problems=Curve(EIGENPROBLEMS, extrapolated=True),
        targets=products(solves, solves * 1e6),
        scores={task: size * byte for task, size in SCORE_BYTES.items()},
        target_pixels={task: size * byte for task, size in TARGET_BYTES.items()},
        sweep=SWEEP_BYTES * byte,
        interval=INTERVAL,
        check=PASSES * _VALUE_BYTES[precision] * byte,
        storing=STORING,
        labels=None,
        to_host=TO_HOST,
    )


def value_bytes(precision: Precision) -> int:
    """Bytes of a weight or an activation."""
    return _VALUE_BYTES[precision]


def assumptions(gpu: Gpu) -> tuple[str, ...]:
    """One line for everything that the rates of a card assume."""
    measured = gpu is GPUS[MEASURED]
    basis = "measured on this card" if measured else "measured on an H100, assumed here"
    sizes = ", ".join(f"{1e3 * seconds:.1f}" for _, seconds in EIGENPROBLEMS)
    columns = ", ".join(f"{width:,.0f}" for width, _ in EIGENPROBLEMS)
    return (
        f"peaks: {gpu.half_flops / 1e12:.0f} TFLOP/s in fp16, {gpu.single_flops / 1e12:.1f} in "
        f"fp32, {gpu.double_flops / 1e12:.2f} in float64 ({gpu.source})",
        f"denoisers reach {HALF_SHARE:.0%} of the fp16 peak or {SINGLE_SHARE:.0%} of the fp32 "
        f"peak, as Stable Diffusion v1's UNet does with PyTorch at 16 rows ({basis})",
        "the autoencoder computes in the denoiser's precision and reaches the same share; text "
        f"encoders compute in fp32 and reach {SINGLE_SHARE:.0%} of its peak",
        f"sums reach {DOUBLE_SHARE:.0%} of the float64 peak, as a Gram matrix of 320 columns does "
        f"({basis}); weights, losses and predictions as well",
        f"eigenproblems take {sizes} ms at {columns} columns ({basis}), one at a time",
        f"scores, thresholds, joins and checks reach {BANDWIDTH_SHARE:.0%} of the memory's "
        f"{gpu.bandwidth / 1e12:.3g} TB/s, with bytes counted from their operations (assumed)",
        f"copies: {TO_HOST / 2**30:.0f} GiB/s to the host ({basis}), not overlapped",
        "loading and opening: as on the H100's machine, with random weights",
        f"storing: {1 / STORING / 2**30:.2f} GiB/s, written once and read twice, as on the H100's "
        "machine, where a run waited for the disk (it does not wait any more)",
        "predictions of probes are counted for two tasks of one channel",
        "labels are not included",
    )
