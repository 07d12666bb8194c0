"""A ring of host buffers for copies from a device, so that a copy overlaps the next engine call.

The sampler and the reducers run on the CPU and receive the outputs of a GPU engine through the ring
of its card. ``python -m bench profile`` measures the speed on a card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from engines.errors import EngineError

SLOTS = 2
"""Sets of buffers: one is read while the other is filled."""


@runtime_checkable
class Copier(Protocol):
    """Copies tensors from a device to the host."""

    def host(self, like: Tensor) -> Tensor:
        """Allocate a host buffer like ``like``, page-locked where the device supports it."""
        ...

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Queue a copy after the caller's work so far; it may overlap later work.

        The source may be freed at once, but must not be written until the copy is over.
        """
        ...

    def mark(self) -> Callable[[], None]:
        """Return a function that waits until every copy queued so far is over."""
        ...


class CpuCopier:
    """Copies at once: for engines on the CPU, and the reference in the copiers' tests."""

    def host(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype)

    def copy(self, source: Tensor, target: Tensor) -> None:
        target.copy_(source)

    def mark(self) -> Callable[[], None]:
        return lambda: None


class TorchCopier:
    """Copies with torch's pinned memory, side stream and events, on one card."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def host(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def copy(self, source: Tensor, target: Tensor) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            target.copy_(source, non_blocking=True)
        # The allocator must not reuse the source's memory while it is read.
        source.record_stream(self.stream)

    def mark(self) -> Callable[[], None]:
        event = torch.cuda.Event()
        event.record(self.stream)
        return event.synchronize


class PycudaCopier:
    """Copies with pycuda's page-locked memory, stream and events.

    pycuda cannot adopt a stream, so torch wraps the one of pycuda.
    """

    def __init__(self, device: torch.device) -> None:
        import pycuda.driver

        self.device = device
        self.driver = pycuda.driver
        self.driver.init()
        # torch's context: pycuda.autoinit would take the first card or make another context.
        self.context = self.driver.Device(_number(device)).retain_primary_context()
        with self._current():
            self.own = self.driver.Stream()
        self.stream = torch.cuda.ExternalStream(self.own.handle, device=device)

    @contextmanager
    def _current(self) -> Iterator[None]:
        self.context.push()
        try:
            yield
        finally:
            self.context.pop()

    def host(self, like: Tensor) -> Tensor:
        import numpy as np

        # As bytes, since numpy has no bfloat16.
        with self._current():
            buffer = self.driver.pagelocked_empty(like.numel() * like.element_size(), np.uint8)
        return torch.from_numpy(buffer).view(like.dtype).view(like.shape)

    def copy(self, source: Tensor, target: Tensor) -> None:
        # Packing is work of the caller's stream, which the copy must come after.
        packed = source.contiguous()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with self._current():
            self.driver.memcpy_dtoh_async(
                target.view(-1).view(torch.uint8).numpy(), packed.data_ptr(), self.own
            )
        packed.record_stream(self.stream)

    def mark(self) -> Callable[[], None]:
        with self._current():
            event = self.driver.Event()
            event.record(self.own)

        def wait() -> None:
            with self._current():
                event.synchronize()

        return wait


def _number(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


@dataclass(slots=True)
class _Slot:
    buffers: dict[str, Tensor]
    is_free: bool = True


@dataclass(frozen=True, slots=True)
class Copy:
    """One set of tensors that is being copied to the host."""

    _wait: Callable[[], None]
    _slot: _Slot
    _tensors: dict[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Wait for the copy and return the ring's buffers, which are reused after ``release``."""
        self._wait()
        return self._tensors

    def release(self) -> None:
        """Return the buffers to the ring."""
        self._slot.is_free = True


class Ring:
    """``slots`` sets of buffers, used in turn."""

    def __init__(self, copier: Copier, slots: int) -> None:
        self.copier = copier
        self.slots = [_Slot({}) for _ in range(slots)]
        self.next = 0

    def put(self, tensors: Mapping[str, Tensor]) -> Copy:
        """Start to copy ``tensors``. Raises EngineError if the next buffers were not released."""
        slot = self.slots[self.next]
        if not slot.is_free:
            raise EngineError(
                f"all {len(self.slots)} buffers of the ring are in use; "
                "release one before the next copy"
            )
        self.next = (self.next + 1) % len(self.slots)
        targets = {name: self._target(slot, name, value) for name, value in tensors.items()}
        for name, value in tensors.items():
            self.copier.copy(value, targets[name])
        slot.is_free = False
        return Copy(self.copier.mark(), slot, targets)

    def _target(self, slot: _Slot, name: str, value: Tensor) -> Tensor:
        """The buffer for ``value``, allocated anew only if the kept one has too few rows."""
        kept = slot.buffers.get(name)
        if (
            kept is None
            or kept.dtype != value.dtype
            or kept.shape[1:] != value.shape[1:]
            or len(kept) < len(value)
        ):
            kept = slot.buffers[name] = self.copier.host(value)
        return kept[: len(value)]


@cache
def ring_of(device: torch.device) -> Ring | None:
    """The process's ring for a card, with pycuda if it is installed; None for the CPU.

    Raises EngineError if pycuda is installed but cannot be loaded.
    """
    if device.type != "cuda":
        return None
    try:
        copier: Copier = PycudaCopier(device) if find_spec("pycuda") else TorchCopier(device)
    except ImportError as error:
        raise EngineError(
            f"pycuda cannot be loaded ({error}); uninstall it to copy with torch instead"
        ) from error
    return Ring(copier, SLOTS)
