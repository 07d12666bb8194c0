"""A CUDA stream to run an engine on, ordered with the caller's, and CUDA graphs of what runs there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class Lane(Protocol):
    """Where a device's work is queued. A test gives one that works on the CPU."""

    device: torch.device
    handle: int
    """The stream, as CUDA libraries take it."""

    def free_bytes(self) -> int:
        """Device memory that is free now."""
        ...

    def card(self) -> str:
        """Name and compute capability."""
        ...

    def run(self, work: Callable[[], None]) -> None:
        """Queue ``work`` after what the caller has queued, and before what it queues next."""
        ...

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """``work`` as a CUDA graph: a function for ``run`` that launches it at once, on the same memory."""
        ...


class CudaLane:
    """A side stream: on the default one, TensorRT and ONNX Runtime would synchronise at every call."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.stream = torch.cuda.Stream()
        self.handle = int(self.stream.cuda_stream)

    def free_bytes(self) -> int:
        # What torch keeps for itself is free as well, once it is asked.
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info()[0])

    def card(self) -> str:
        major, minor = torch.cuda.get_device_capability()
        return f"{torch.cuda.get_device_name()} (compute capability {major}.{minor})"

    def run(self, work: Callable[[], None]) -> None:
        callers = torch.cuda.current_stream()
        self.stream.wait_stream(callers)
        with torch.cuda.stream(self.stream):
            work()
        callers.wait_stream(self.stream)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        # Libraries allocate and choose kernels in their first run, which must not be captured.
        self.run(work)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=self.stream):
            work()
        return lambda: graph.replay()


def own_device(name: str) -> torch.device:
    """What a name of torch's stands for in this process: of several cards the one that it was given.

    Without its number a card would be another one in other threads.
    """
    return torch.device(name, torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def full_fp32() -> None:
    """Have fp32 mean fp32: TF32 rounds every factor to 10 bits, and is what convolutions do unless they are told."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def cuda_missing() -> str | None:
    """Why torch cannot use a GPU here, in a sentence; None if it can."""
    if torch.version.cuda is None:
        return "this torch is built for the CPU alone; install one with CUDA (https://pytorch.org/get-started)"
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU; install its driver, or use an engine of the CPU"
    return None
