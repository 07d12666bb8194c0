"""PyTorch as it comes, with forward hooks at the taps: the reference that every other engine is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Backend, Prediction, Tap

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor, nn

    from engines.layer_times import LayerTime, LayerTimes


@contextmanager
def listening(unet: UNet2DConditionModel, taps: Sequence[Tap]) -> Iterator[dict[str, Tensor]]:
    """Collect the taps' outputs by layer name, in the order of computation, while the block is open."""
    heard: dict[str, Tensor] = {}

    def keep(layer: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            # A convolution's pixels are tokens too.
            heard[layer] = output.flatten(2).mT if output.ndim == 4 else output

        return hook

    handles = [unet.get_submodule(tap.path).register_forward_hook(keep(tap.layer)) for tap in taps]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


class TorchEager:
    """Runs the module itself."""

    def __init__(self, unet: UNet2DConditionModel, taps: Sequence[Tap]) -> None:
        self.unet = unet
        self.taps = taps

    def __call__(self, latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        """Run the UNet once, without gradients."""
        import torch

        from engines.prompt import predict

        with torch.inference_mode(), listening(self.unet, self.taps) as heard:
            noise = predict(self.unet, latents, torch.tensor(timestep, dtype=torch.float32), text)
        return Prediction(noise, heard)

    def layer_times(self, latents: Tensor, timestep: float, text: Tensor, calls: int) -> LayerTimes:
        """Times of every module without its children, by the clock on the wall; the taps are heard as usual."""
        from time import perf_counter

        from engines.layer_times import LayerTimes, merged

        self(latents, timestep, text)
        with timing(self.unet) as entries:
            start = perf_counter()
            for _ in range(calls):
                self(latents, timestep, text)
            total = perf_counter() - start
        return LayerTimes(merged(entries, calls), total / calls)


@contextmanager
def timing(unet: UNet2DConditionModel) -> Iterator[list[LayerTime]]:
    """Note every module's own seconds while the block is open: its call's, less those of the calls inside."""
    from time import perf_counter

    from engines.layer_times import LayerTime

    entries: list[LayerTime] = []
    inside: list[float] = [0.0]
    starts: list[float] = []

    def enter(_module: nn.Module, _inputs: object) -> None:
        inside.append(0.0)
        starts.append(perf_counter())

    def leave(path: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _inputs: object, _output: object) -> None:
            whole = perf_counter() - starts.pop()
            entries.append(LayerTime(path, type(module).__name__, whole - inside.pop()))
            inside[-1] += whole

        return hook

    handles = []
    for path, module in unet.named_modules():
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave(path))]
    try:
        yield entries
    finally:
        for handle in handles:
            handle.remove()


def _open(unet: UNet2DConditionModel, taps: Sequence[Tap], _cache: Path, threads: int) -> TorchEager:
    import torch

    torch.set_num_threads(threads)
    return TorchEager(unet, taps)


BACKEND = Backend(unavailable=lambda: None, open=_open)
