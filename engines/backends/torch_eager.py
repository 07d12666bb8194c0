"""Eager PyTorch with forward hooks at the taps: the reference for every other engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from engines.engine import Backend, Prediction, Tap

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel
    from torch import Tensor, nn

    from engines.layer_times import LayerTime, LayerTimes


def as_tokens(output: Tensor) -> Tensor:
    """A tap's output as (n tokens channels): the pixels of a convolution are its tokens."""
    return output.flatten(2).mT if output.ndim == 4 else output


@contextmanager
def recording_taps(unet: UNet2DConditionModel, taps: Sequence[Tap]) -> Iterator[dict[str, Tensor]]:
    """Record the taps' outputs by layer name, in the order of computation, inside the block."""
    outputs: dict[str, Tensor] = {}

    def record(layer: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            outputs[layer] = as_tokens(output)

        return hook

    handles = [
        unet.get_submodule(tap.path).register_forward_hook(record(tap.layer)) for tap in taps
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


class TorchEager:
    """An engine that runs the module on the device and in the precision of its weights."""

    def __init__(self, unet: UNet2DConditionModel, taps: Sequence[Tap]) -> None:
        self.unet = unet
        self.taps = taps

    def __call__(self, latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        """Run the UNet once, without gradients."""
        import torch

        from engines.prompt import predict

        device, dtype = self.unet.device, self.unet.dtype
        time = torch.tensor(timestep, dtype=torch.float32, device=device)
        with torch.inference_mode(), recording_taps(self.unet, self.taps) as outputs:
            noise = predict(self.unet, latents.to(device, dtype), time, text.to(device, dtype))
        return Prediction(noise, outputs)

    def layer_times(self, latents: Tensor, timestep: float, text: Tensor, calls: int) -> LayerTimes:
        """Wall times of every module without its children, with the taps recorded as usual."""
        from engines.layer_times import LayerTimes, merged

        clock = clock_of(self.unet.device)
        self(latents, timestep, text)
        with timing(self.unet, clock) as entries:
            start = clock()
            for _ in range(calls):
                self(latents, timestep, text)
            total = clock() - start
        return LayerTimes(merged(entries, calls), total / calls)


def clock_of(device: torch.device) -> Callable[[], float]:
    """A wall clock in seconds that waits for the device's queued work before it is read."""
    import torch

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter()

    return clock


@contextmanager
def timing(
    unet: UNet2DConditionModel, clock: Callable[[], float] = perf_counter
) -> Iterator[list[LayerTime]]:
    """Record every module's self time inside the block: its call's, less those of nested calls."""
    from engines.layer_times import LayerTime

    entries: list[LayerTime] = []
    nested: list[float] = [0.0]
    starts: list[float] = []

    def enter(_module: nn.Module, _inputs: object) -> None:
        nested.append(0.0)
        starts.append(clock())

    def leave(path: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _inputs: object, _output: object) -> None:
            seconds = clock() - starts.pop()
            entries.append(LayerTime(path, type(module).__name__, seconds - nested.pop()))
            nested[-1] += seconds

        return hook

    handles = []
    for path, module in unet.named_modules():
        handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave(path)),
        ]
    try:
        yield entries
    finally:
        for handle in handles:
            handle.remove()


def _open(
    unet: UNet2DConditionModel, taps: Sequence[Tap], _cache: Path, threads: int
) -> TorchEager:
    import torch

    torch.set_num_threads(threads)
    return TorchEager(unet, taps)


BACKEND = Backend(unavailable=lambda: None, open=_open)
