"""Checks and times of a block's calls; on a GPU they are read once, at the end of the block."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from engines.errors import EngineError

_PROCESS = psutil.Process()
_CPU = torch.device("cpu")


class Checks:
    """Checks that what networks compute is finite.

    On the CPU a value is checked at once, so that a run ends early. Elsewhere this would wait for
    the device, and :meth:`finish` reads all flags together.
    """

    def __init__(self, device: torch.device) -> None:
        self._at_once = device == _CPU
        self._flags: list[Tensor] = []
        self._names: list[tuple[str, str, int]] = []

    def add(self, values: Mapping[str, Tensor], network: str, step: int) -> None:
        """Check the named values of a network at a step (0 to T-1); may raise as ``finish``."""
        for name, value in values.items():
            if not self._at_once:
                self._names.append((name, network, step))
                self._flags.append(torch.isfinite(value.sum(dtype=torch.float64)))
            elif not _is_finite(value):
                raise _not_finite(name, network, step)

    def finish(self) -> None:
        """Raise EngineError for the first value that was NaN or infinite."""
        if not self._flags:
            return
        for finite, where in zip(torch.stack(self._flags).cpu().tolist(), self._names, strict=True):
            if not finite:
                raise _not_finite(*where)


def _is_finite(value: Tensor) -> bool:
    # The quick sum comes first. Finite values may overflow it, but not the sum in float64.
    return any(bool(torch.isfinite(value.sum(dtype=dtype))) for dtype in (None, torch.float64))


def _not_finite(name: str, network: str, step: int) -> EngineError:
    return EngineError(
        f"NaN or infinity in {name} of the {network} network at step {step + 1}; "
        "check the weights, or use an engine of higher precision"
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """One call."""

    step: int
    network: str
    rows: int
    resident_bytes: int
    """Memory of the process when it returned."""
    before: float | torch.cuda.Event
    after: float | torch.cuda.Event

    @property
    def seconds(self) -> float:
        """Its time; the device's work must be over."""
        if isinstance(self.before, float) or isinstance(self.after, float):
            assert isinstance(self.before, float)
            assert isinstance(self.after, float)
            return self.after - self.before
        return float(self.before.elapsed_time(self.after)) / 1e3


class Clock:
    """Times calls: with events on the current stream of a CUDA device, or else by the wall."""

    def __init__(self, device: torch.device) -> None:
        self.calls: list[Timed] = []
        self._device = device

    @contextmanager
    def timing(self, step: int, network: str, rows: int) -> Iterator[None]:
        """Time the block as one call."""
        before = self._now()
        yield
        after = self._now()
        memory = _PROCESS.memory_info().rss
        self.calls.append(Timed(step, network, rows, memory, before, after))

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
