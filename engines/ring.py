"""A ring of host buffers for copies from a device, so that a copy can run beside the next call of the engine.

For those who want activations on the host: extract itself reduces them on the device and needs no ring. Nothing is
claimed about speed here; that is for ``python -m bench profile`` to measure on a card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from engines.errors import EngineError


@runtime_checkable
class Copier(Protocol):
    """A device's way to copy to the host."""

    def host(self, like: Tensor) -> Tensor:
        """A buffer of the host with the shape and type of ``like``, page-locked where the device can use that."""
        ...

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Queue a copy after what the caller's stream has queued so far; it may run beside what comes later.

        The source may be let go at once, but must not be written until the copy is over.
        """
        ...

    def mark(self) -> Callable[[], None]:
        """A function that waits until every copy queued so far is over."""
        ...


class CpuCopier:
    """Copies at once: what an engine of the CPU needs, and what the devices' copiers are tested against."""

    def host(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype)

    def copy(self, source: Tensor, target: Tensor) -> None:
        target.copy_(source)

    def mark(self) -> Callable[[], None]:
        return lambda: None


class TorchCopier:
    """Pinned memory, a side stream and events of torch."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def host(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def copy(self, source: Tensor, target: Tensor) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            target.copy_(source, non_blocking=True)
        # The allocator must not give the source's memory away while it is read.
        source.record_stream(self.stream)

    def mark(self) -> Callable[[], None]:
        event = torch.cuda.Event()
        event.record(self.stream)
        return event.synchronize


class PycudaCopier:
    """Page-locked memory, stream and events of pycuda; it cannot adopt a stream, so torch wraps pycuda's."""

    def __init__(self) -> None:
        # torch must have made the device's primary context, which pycuda then shares.
        torch.cuda.init()
        import pycuda.autoprimaryctx
        import pycuda.driver

        self.driver = pycuda.driver
        self.own = self.driver.Stream()
        self.stream = torch.cuda.ExternalStream(self.own.handle)

    def host(self, like: Tensor) -> Tensor:
        import numpy as np

        # As bytes, since numpy has no bfloat16.
        buffer = self.driver.pagelocked_empty(like.numel() * like.element_size(), np.uint8)
        return torch.from_numpy(buffer).view(like.dtype).view(like.shape)

    def copy(self, source: Tensor, target: Tensor) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        packed = source.contiguous()
        if packed is not source:
            # The packing was queued on the caller's stream just now.
            self.stream.wait_stream(torch.cuda.current_stream())
        self.driver.memcpy_dtoh_async(target.view(-1).view(torch.uint8).numpy(), packed.data_ptr(), self.own)
        packed.record_stream(self.stream)

    def mark(self) -> Callable[[], None]:
        event = self.driver.Event()
        event.record(self.own)

        def wait() -> None:
            event.synchronize()

        return wait


@dataclass(slots=True)
class _Slot:
    buffers: dict[str, Tensor]
    is_free: bool = True


@dataclass(frozen=True, slots=True)
class Copy:
    """One set of tensors on its way to the host."""

    _wait: Callable[[], None]
    _slot: _Slot

    def tensors(self) -> dict[str, Tensor]:
        """Wait, and give the buffers: they belong to the ring, and are written again after ``release``."""
        self._wait()
        return self._slot.buffers

    def release(self) -> None:
        """Give the buffers back to the ring."""
        self._slot.is_free = True


class Ring:
    """``slots`` sets of buffers, used in turn."""

    def __init__(self, copier: Copier, slots: int) -> None:
        self.copier = copier
        self.slots = [_Slot({}) for _ in range(slots)]
        self.next = 0

    def put(self, tensors: Mapping[str, Tensor]) -> Copy:
        """Start to copy ``tensors``. Raises EngineError when the slot whose turn it is has not been released."""
        slot = self.slots[self.next]
        if not slot.is_free:
            raise EngineError(f"all {len(self.slots)} buffers of the ring are in use; release one before the next copy")
        self.next = (self.next + 1) % len(self.slots)
        fits = slot.buffers.keys() == tensors.keys() and all(
            slot.buffers[name].shape == value.shape and slot.buffers[name].dtype == value.dtype
            for name, value in tensors.items()
        )
        if not fits:
            slot.buffers = {name: self.copier.host(value) for name, value in tensors.items()}
        for name, value in tensors.items():
            self.copier.copy(value, slot.buffers[name])
        slot.is_free = False
        return Copy(self.copier.mark(), slot)
