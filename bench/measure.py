"""Measure seconds of a call, resident memory, and the rate of matrix products on this machine."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from torch import Tensor

Result = TypeVar("Result")

_PROCESS = psutil.Process()
_DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_SIDES = {"cpu": 1024, "cuda": 8192}
"""Sides of the square matrices, half of them in float64.

2 GFLOP take 30 ms at 70 GFLOP/s, often undisturbed.
"""
_REPEATS = 10
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


def timed(call: Callable[[], Result], device: str = "cpu") -> tuple[Result, float]:
    """Return a call's result and its seconds; on CUDA, between two events on the current stream."""
    if not device.startswith("cuda"):
        started = time.perf_counter()
        result = call()
        return result, time.perf_counter() - started
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    before.record()
    result = call()
    after.record()
    after.synchronize()
    return result, before.elapsed_time(after) / 1e3


def matrix_product(precision: str, device: str) -> tuple[Callable[[], Tensor], int] | None:
    """Return a product of large random matrices and its operations; None for unknown names.

    Products of ones are faster on a card, as fewer bits change.
    """
    kind = device.partition(":")[0]
    dtype, side = _DTYPES.get(precision), _SIDES.get(kind)
    if dtype is None or side is None:
        return None
    side //= 2 if dtype == torch.float64 else 1
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2)
    )
    out = torch.empty(side, side, dtype=dtype, device=device)
    return lambda: torch.mm(left, right, out=out), 2 * side**3


def matrix_rate(precision: str, device: str = "cpu") -> float | None:
    """Return FLOP/s of a large matrix product, the best of ten; None for an unknown precision."""
    product = matrix_product(precision, device)
    if product is None:
        return None
    call, operations = product
    call()
    return operations / min(timed(call, device)[1] for _ in range(_REPEATS))


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(_PROCESS.memory_info().rss)


def available_bytes() -> int:
    """Return the memory that processes can take without swapping."""
    return int(psutil.virtual_memory().available)


def machine_bytes() -> int:
    """Return the memory of this machine, free or not."""
    return int(psutil.virtual_memory().total)


def device_bytes(device: str) -> int | None:
    """Return the memory in use on a CUDA device, by all processes; None for the CPU."""
    if not device.startswith("cuda"):
        return None
    free, whole = torch.cuda.mem_get_info(device)
    return int(whole - free)


def peak_during(call: Callable[[], object]) -> int | None:
    """Return peak resident bytes while ``call`` runs; None where the peak cannot be reset."""
    try:
        # Linux: 5 resets the high-water mark to the resident size (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    call()
    return _high_water_mark()


def peak_bytes() -> int:
    """Return peak resident bytes of this process since its start."""
    # Not getrusage on Linux: its peak includes that of the parent process before exec.
    return _high_water_mark() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def _high_water_mark() -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def release_memory() -> None:
    """Return freed memory to the system where glibc or, on a GPU, torch keeps it.

    Freed memory is fragmented. Without this, the next stage's large tables are allocated on top
    of it, and the peak depends on how many items were generated before.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        # Engines on the GPU allocate from the same memory, but not through torch.
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
