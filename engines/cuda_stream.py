"""A CUDA stream for an engine, ordered with the caller's stream, and CUDA graphs of its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class DeviceStream(Protocol):
    """A queue of work on a device. Tests use one that works on the CPU."""

    device: torch.device
    handle: int
    """The stream's address, as CUDA libraries take it."""

    def free_bytes(self) -> int:
        """Free device memory."""
        ...

    def card(self) -> str:
        """Name and compute capability of the device."""
        ...

    def run(self, work: Callable[[], None]) -> None:
        """Queue ``work`` after what the caller has queued, and before what it queues next."""
        ...

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture ``work`` as a CUDA graph; the result, for ``run``, replays it on its memory."""
        ...


class CudaStream:
    """A side stream: on the default one TensorRT and ONNX Runtime synchronise at every call."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.stream = torch.cuda.Stream()
        self.handle = int(self.stream.cuda_stream)

    def free_bytes(self) -> int:
        # Memory that torch has cached is free as well, once the cache is emptied.
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info()[0])

    def card(self) -> str:
        major, minor = torch.cuda.get_device_capability()
        return f"{torch.cuda.get_device_name()} (compute capability {major}.{minor})"

    def run(self, work: Callable[[], None]) -> None:
        caller = torch.cuda.current_stream()
        self.stream.wait_stream(caller)
        with torch.cuda.stream(self.stream):
            work()
        caller.wait_stream(self.stream)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        # Libraries allocate and choose kernels in their first run, which must not be captured.
        self.run(work)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=self.stream):
            work()
        return lambda: graph.replay()


def own_device(name: str) -> torch.device:
    """The device of a torch name in this process: ``cuda`` is the current card, with its index.

    Without an index, ``cuda`` could be another card in another thread.
    """
    return torch.device(name, torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def wait_for(device: torch.device) -> None:
    """Wait until the work of a device is over; the CPU's always is."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def full_fp32() -> None:
    """Turn off TF32, torch's default in convolutions, which rounds every factor to 10 bits."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def cuda_missing() -> str | None:
    """The reason why torch cannot use a GPU here; None if it can."""
    if torch.version.cuda is None:
        return (
            "this torch is built for the CPU alone; "
            "install one with CUDA (https://pytorch.org/get-started)"
        )
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU; install its driver, or use an engine of the CPU"
    return None
