"""PyTorch compiled by Inductor: the first call of every batch size compiles for minutes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.backends.torch_eager import as_tokens
from engines.engine import Backend, Prediction, Tap

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor, nn


class TorchCompile:
    """The UNet with its taps as outputs, compiled for each number of rows."""

    def __init__(self, unet: UNet2DConditionModel, taps: Sequence[Tap]) -> None:
        import copy

        import torch

        network = copy.deepcopy(unet)
        outputs: dict[str, Tensor] = {}

        # The compiler traces hooks that exist before it starts. They are lambdas, since it cannot
        # trace the shape checks that a test run adds to functions.
        for tap in taps:
            network.get_submodule(tap.path).register_forward_hook(_record(outputs, tap.layer))
        layers = [tap.layer for tap in taps]
        self.outputs = outputs
        self.taps = taps
        # fullgraph: a graph break is an error, not a slow engine.
        compiled: Any = torch.compile
        self.call = compiled(
            lambda latents, timestep, text: [
                network(latents, timestep, text).sample,
                *[outputs[name] for name in layers],
            ],
            fullgraph=True,
            dynamic=False,
        )

    def __call__(self, latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        """Run the UNet once, without gradients."""
        import torch

        from engines.export import quiet

        inputs = (
            latents.float().contiguous(),
            torch.tensor(timestep, dtype=torch.float32),
            text.float().contiguous(),
        )
        # Inductor warns of its deprecations while it compiles.
        with torch.no_grad(), quiet():
            noise, *taps = self.call(*inputs)
        # Only the caller may hold the outputs.
        self.outputs.clear()
        return Prediction(
            noise, {tap.layer: as_tokens(value) for tap, value in zip(self.taps, taps, strict=True)}
        )


def _record(outputs: dict[str, Tensor], layer: str) -> Callable[[nn.Module, object, Tensor], None]:
    return lambda _module, _inputs, output: outputs.update({layer: output})


def _unavailable() -> str | None:
    import os

    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return (
            f"torch.compile needs a C++ compiler, and {compiler} is not there; "
            "install g++, or name yours in CXX"
        )
    return None


def _open(
    unet: UNet2DConditionModel, taps: Sequence[Tap], _cache: Path, threads: int
) -> TorchCompile:
    import torch

    from engines.errors import EngineError
    from engines.prompt import takes_added_conditions

    if takes_added_conditions(unet.config):
        raise EngineError(
            "the engine torch_compile does not run SDXL; use torch_eager or onnxruntime"
        )
    torch.set_num_threads(threads)
    return TorchCompile(unet, taps)


BACKEND = Backend(unavailable=_unavailable, open=_open, keeps_weights=True)
