"""Eager PyTorch with forward hooks at the taps: the reference for every other engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from engines.engine import Backend, Prediction, Tap

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor, nn

    from engines.conditioning import Conditioning
    from engines.denoiser import Denoiser
    from engines.layer_times import LayerTime, LayerTimes


@contextmanager
def recording_taps(
    module: nn.Module, taps: Sequence[Tap]
) -> Iterator[dict[str, Float[Tensor, "n tokens channels"]]]:
    """Record the taps by layer name, in the order of computation, inside the block."""
    outputs: dict[str, Tensor] = {}
    bases: dict[str, Tensor] = {}

    def of_output(tap: Tap) -> Callable[[nn.Module, object, Any], None]:
        def hook(_module: nn.Module, _inputs: object, passing: Any) -> None:
            outputs[tap.layer] = _difference(tap.read(passing), bases.get(tap.layer))

        return hook

    def of_input(tap: Tap) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            outputs[tap.layer] = _difference(tap.read(inputs[0]), bases.get(tap.layer))

        return hook

    def of_base(tap: Tap) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            bases[tap.layer] = tap.read(inputs[0])

        return hook

    handles = []
    for tap in taps:
        tapped = module.get_submodule(tap.path)
        handles.append(
            tapped.register_forward_hook(of_output(tap))
            if tap.port == "output"
            else tapped.register_forward_pre_hook(of_input(tap))
        )
        if tap.minus is not None:
            base = module.get_submodule(tap.minus)
            handles.append(base.register_forward_pre_hook(of_base(tap)))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _difference(value: Tensor, base: Tensor | None) -> Tensor:
    return value if base is None else value - base


class TorchEager:
    """An engine that runs the module on the device and in the precision of its weights."""

    def __init__(self, denoiser: Denoiser, taps: Sequence[Tap]) -> None:
        self.denoiser = denoiser
        self.taps = taps

    def __call__(self, latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        """Run the denoiser once, without gradients."""
        import torch

        device, dtype = self.denoiser.device, self.denoiser.dtype
        # A number copied from the CPU would wait for the device.
        time = torch.full((), timestep, dtype=torch.float32, device=device)
        with (
            torch.inference_mode(),
            recording_taps(self.denoiser.module, self.taps) as outputs,
        ):
            noise = self.denoiser(latents.to(device, dtype), time, conditioning.to(device, dtype))
        return Prediction(noise, {tap.layer: outputs[tap.layer] for tap in self.taps})

    def layer_times(
        self, latents: Tensor, timestep: float, conditioning: Conditioning, calls: int
    ) -> LayerTimes:
        """Wall times of every module without its children, with the taps recorded as usual."""
        from engines.layer_times import LayerTimes, merged

        clock = clock_of(self.denoiser.device)
        self(latents, timestep, conditioning)
        with timing(self.denoiser.module, clock) as entries:
            start = clock()
            for _ in range(calls):
                self(latents, timestep, conditioning)
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
    network: nn.Module, clock: Callable[[], float] = perf_counter
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
    for path, module in network.named_modules():
        handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave(path)),
        ]
    try:
        yield entries
    finally:
        for handle in handles:
            handle.remove()


def _open(denoiser: Denoiser, taps: Sequence[Tap], _cache: Path, threads: int) -> TorchEager:
    import torch

    torch.set_num_threads(threads)
    return TorchEager(denoiser, taps)


BACKEND = Backend(unavailable=lambda: None, open=_open)
