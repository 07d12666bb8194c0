"""PyTorch compiled by Inductor: the first call of every batch size compiles for minutes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.engine import Backend, Prediction, Tap
from engines.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.conditioning import Conditioning
    from engines.denoiser import Denoiser


class TorchCompile:
    """The denoiser with its taps as outputs, compiled for each number of rows."""

    def __init__(self, denoiser: Denoiser, taps: Sequence[Tap]) -> None:
        import torch

        from engines.conditioning import Conditioning

        network = denoiser.copied()
        outputs: dict[str, Any] = {}
        # The compiler traces hooks that exist before it starts. They are lambdas, since it cannot
        # trace the shape checks that a test run adds to functions.
        for tap in taps:
            if tap.minus:
                raise EngineError(
                    f"the engine torch_compile records no {tap.layer}; use another engine"
                )
            _record(network.module.get_submodule(tap.path), tap, outputs)
        layers = [tap.layer for tap in taps]
        self.outputs = outputs
        self.taps = taps
        predict, module = network.predict, network.module
        # fullgraph: a graph break is an error, not a slow engine.
        compiled: Any = torch.compile
        self.call = compiled(
            lambda latents, timestep, conditioning: [
                predict(module, latents, timestep, Conditioning(conditioning)),
                *[outputs[name] for name in layers],
            ],
            fullgraph=True,
            dynamic=False,
        )

    def __call__(self, latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        """Run the denoiser once, without gradients."""
        import torch

        from engines.export import quiet

        inputs = (
            latents.float().contiguous(),
            torch.tensor(timestep, dtype=torch.float32),
            {name: value.float().contiguous() for name, value in conditioning.tensors.items()},
        )
        # Inductor warns of its deprecations while it compiles.
        with torch.no_grad(), quiet():
            noise, *taps = self.call(*inputs)
        # Only the caller may hold the outputs.
        self.outputs.clear()
        return Prediction(
            noise, {tap.layer: tap.read(value) for tap, value in zip(self.taps, taps, strict=True)}
        )


def _record(module: nn.Module, tap: Tap, outputs: dict[str, Any]) -> None:
    layer = tap.layer
    if tap.port == "output":
        module.register_forward_hook(
            lambda _module, _inputs, output: outputs.update({layer: output})
        )
    else:
        module.register_forward_pre_hook(lambda _module, inputs: outputs.update({layer: inputs[0]}))


def _unavailable() -> str | None:
    import os

    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return (
            f"torch.compile needs a C++ compiler, and {compiler} is not there; "
            "install g++, or name yours in CXX"
        )
    return None


def _open(denoiser: Denoiser, taps: Sequence[Tap], _cache: Path, threads: int) -> TorchCompile:
    import torch

    torch.set_num_threads(threads)
    return TorchCompile(denoiser, taps)


BACKEND = Backend(unavailable=_unavailable, open=_open, keeps_weights=True)
