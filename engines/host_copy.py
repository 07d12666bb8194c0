"""Copies of results from a device to the CPU, many at a time with a single wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from engines.errors import EngineError

Name = TypeVar("Name")


@runtime_checkable
class Copier(Protocol):
    """Copies tensors from a device to the host."""

    def host(self, like: Tensor) -> Tensor:
        """Allocate a host buffer like ``like``, page-locked where the device supports it."""
        ...

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Queue a copy after the caller's work so far.

        The source may be freed at once, but must not be written until the copy is over.
        """
        ...

    def mark(self) -> Callable[[], None]:
        """Return a function that waits until every copy queued so far is over."""
        ...


class CpuCopier:
    """Copies at once, for devices other than GPUs: the reference in the copiers' tests."""

    def host(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype)

    def copy(self, source: Tensor, target: Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def mark(self) -> Callable[[], None]:
        return lambda: None


class TorchCopier:
    """Copies with torch's page-locked memory, on the caller's stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def host(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def copy(self, source: Tensor, target: Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def mark(self) -> Callable[[], None]:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
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


@cache
def copier_of(device: torch.device) -> Copier:
    """The process's copier for a device: on a GPU with pycuda if it is installed, or with torch.

    Raises EngineError if pycuda is installed but cannot be loaded.
    """
    if device.type != "cuda":
        return CpuCopier()
    try:
        return PycudaCopier(device) if find_spec("pycuda") else TorchCopier(device)
    except ImportError as error:
        raise EngineError(
            f"pycuda cannot be loaded ({error}); uninstall it to copy with torch instead"
        ) from error


def to_host(tensors: Mapping[Name, Tensor]) -> dict[Name, Tensor]:
    """Copy tensors to the CPU and wait once for all; those on the CPU are returned as they are."""
    copied, copiers = {}, {}
    for name, value in tensors.items():
        if _is_here(value):
            copied[name] = value
            continue
        copier = copiers[value.device] = copier_of(value.device)
        copied[name] = copier.host(value)
        copier.copy(value, copied[name])
    for copier in copiers.values():
        copier.mark()()
    return copied


def _is_here(value: Tensor) -> bool:
    return value.device.type == "cpu"
