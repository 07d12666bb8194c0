"""Repeat a call within a time budget, and measure rates of matrix products and copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import torch

from bench.machine.records import CopyRates
from bench.measure import matrix_product, timed

_MOST = 50
_COPIED_BYTES = 64 << 20


def readings(
    call: Callable[[], object], seconds: float, device: str = "cpu", most: int = _MOST
) -> list[float]:
    """Seconds of every call after a first one that is left out, until the budget is spent.

    There is at least one.
    """
    started = time.perf_counter()
    call()
    taken: list[float] = []
    while not taken or (time.perf_counter() - started < seconds and len(taken) < most):
        taken.append(timed(call, device)[1])
    return taken


def usual(call: Callable[[], object], seconds: float, device: str = "cpu") -> float:
    """Median seconds of a call."""
    return median(readings(call, seconds, device))


def at_once(
    call: Callable[[int], object], threads: int, seconds: float, device: str = "cpu"
) -> float:
    """Median seconds per call, with ``threads`` calls at once on the CPU and one on a card.

    ``call`` takes the number of its thread.
    """
    if device != "cpu" or threads == 1:
        return usual(lambda: call(0), seconds, device)
    with ThreadPoolExecutor(threads) as pool:
        return usual(lambda: list(pool.map(call, range(threads))), seconds) / threads


def matrix_peak(precision: str, device: str, seconds: float) -> float | None:
    """Best FLOP/s of a large product of random matrices; None for unknown names."""
    product = matrix_product(precision, device)
    if product is None:
        return None
    call, operations = product
    return operations / min(readings(call, seconds, device))


def matrix_peaks(kinds: Sequence[tuple[str, str]], seconds: float) -> dict[str, float]:
    """``"precision device"`` -> rate, of all (precision, device) whose rate is known."""
    peaks: dict[str, float] = {}
    for precision, device in kinds:
        rate = matrix_peak(precision, device, seconds / len(kinds))
        if rate is not None:
            peaks[peak_name(precision, device)] = rate
    return peaks


def peak_name(precision: str, device: str) -> str:
    """The name of a peak in the file, such as ``fp32 cpu``."""
    return f"{precision} {device}"


def copy_rates(device: str, seconds: float) -> CopyRates | None:
    """Bytes per second between host and card; None for the CPU."""
    if device == "cpu":
        return None
    ordinary = torch.zeros(_COPIED_BYTES, dtype=torch.uint8)
    locked = torch.zeros(_COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
    there = ordinary.to(device)
    to_host = usual(lambda: locked.copy_(there, non_blocking=True), seconds / 2, device)
    to_card = usual(lambda: there.copy_(ordinary), seconds / 2, device)
    return CopyRates(to_host=_COPIED_BYTES / to_host, to_card=_COPIED_BYTES / to_card)
