"""ONNX Runtime on the CPU, reading and writing PyTorch's memory in place: the default engine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Backend, Prediction, Tap

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor

OPSET = 20
"""At 23 attention is one node, whose CPU kernel is slower at full size (19 to 25 s a step against 11 to 14 s)."""


class OnnxRuntime:
    """A session whose inputs and outputs are bound to tensors."""

    def __init__(self, model: Path, taps: Sequence[Tap], threads: int) -> None:
        import onnxruntime

        from engines.errors import EngineError
        from engines.export import NOISE

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin while they wait slow down whatever else runs: torch, between our calls.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            line = str(error).splitlines()[0]
            raise EngineError(
                f"ONNX Runtime cannot open {model}: {line}; delete {model.parent} and run again"
            ) from error
        self.names = [NOISE, *(tap.layer for tap in taps)]
        found = [output.name for output in self.session.get_outputs()]
        if found != self.names:
            raise EngineError(
                f"{model} has outputs {found}, expected {self.names}; delete {model.parent} and run again"
            )
        self.shapes: list[tuple[int, ...]] | None = None

    def __call__(self, latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        """Run the UNet once; the outputs are written straight into new tensors."""
        import numpy as np
        import torch

        time = torch.tensor(timestep, dtype=torch.float32)
        inputs = {"latents": latents.float().contiguous(), "timestep": time, "text": text.float().contiguous()}
        if self.shapes is None:
            arrays = self.session.run(None, {name: value.numpy() for name, value in inputs.items()})
            self.shapes = [array.shape[1:] for array in arrays]
        outputs = [torch.empty(len(latents), *shape) for shape in self.shapes]
        binding = self.session.io_binding()
        # ONNX Runtime keeps pointers only: ``inputs`` and ``outputs`` stay alive until the run is over.
        for name, value in inputs.items():
            binding.bind_input(name, "cpu", 0, np.float32, tuple(value.shape), value.data_ptr())
        for name, value in zip(self.names, outputs, strict=True):
            binding.bind_output(name, "cpu", 0, np.float32, tuple(value.shape), value.data_ptr())
        self.session.run_with_iobinding(binding)
        return Prediction(outputs[0], dict(zip(self.names[1:], outputs[1:], strict=True)))


def _unavailable() -> str | None:
    if find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed; install the extra: pip install 'scenebench[cpu]'"
    return None


def _open(unet: UNet2DConditionModel, taps: Sequence[Tap], cache: Path, threads: int) -> OnnxRuntime:
    from engines.export import exported

    return OnnxRuntime(exported(unet, taps, OPSET, cache), taps, threads)


BACKEND = Backend(unavailable=_unavailable, open=_open)
