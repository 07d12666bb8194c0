"""PyTorch compiled by Inductor: kernels are generated at the first call of every batch size, which takes minutes."""

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

        own = copy.deepcopy(unet)
        heard: dict[str, Tensor] = {}

        # The compiler follows hooks that are there before it starts, on a copy that nobody else calls; as lambdas,
        # since a test run wraps functions in checks that it cannot follow.
        for tap in taps:
            own.get_submodule(tap.path).register_forward_hook(_keep(heard, tap.layer))
        layers = [tap.layer for tap in taps]
        self.heard = heard
        self.taps = taps
        # Without graph breaks: what cannot be compiled whole is an error, not a slow engine.
        compiled: Any = torch.compile
        self.call = compiled(
            lambda latents, timestep, text: [
                own(latents, timestep, text).sample,
                *[heard[name] for name in layers],
            ],
            fullgraph=True,
            dynamic=False,
        )

    def __call__(self, latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        """Run the UNet once, without gradients."""
        import torch

        from engines.export import quiet

        given = (
            latents.float().contiguous(),
            torch.tensor(timestep, dtype=torch.float32),
            text.float().contiguous(),
        )
        # Inductor warns of its own deprecations while it compiles.
        with torch.no_grad(), quiet():
            noise, *taps = self.call(*given)
        # The outputs belong to the caller alone.
        self.heard.clear()
        return Prediction(
            noise, {tap.layer: as_tokens(value) for tap, value in zip(self.taps, taps, strict=True)}
        )


def _keep(heard: dict[str, Tensor], layer: str) -> Callable[[nn.Module, object, Tensor], None]:
    return lambda _module, _inputs, output: heard.update({layer: output})


def _unavailable() -> str | None:
    import os

    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"torch.compile needs a C++ compiler, and {compiler} is not there; install g++, or name yours in CXX"
    return None


def _open(
    unet: UNet2DConditionModel, taps: Sequence[Tap], _cache: Path, threads: int
) -> TorchCompile:
    import torch

    from engines.errors import EngineError
    from engines.prompt import takes_more

    if takes_more(unet.config):
        raise EngineError(
            "the engine torch_compile does not run SDXL; use torch_eager or onnxruntime"
        )
    torch.set_num_threads(threads)
    return TorchCompile(unet, taps)


BACKEND = Backend(unavailable=_unavailable, open=_open, keeps_weights=True)
