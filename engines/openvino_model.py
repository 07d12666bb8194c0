"""OpenVINO on the CPU, in a precision that is set and read back, compiled per number of rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.engine import Prediction, Tap
from engines.errors import EngineError
from engines.layer_times import LayerTime, LayerTimes, merged, module_of

if TYPE_CHECKING:
    from torch import Tensor

    from engines.conditioning import Conditioning
    from engines.denoiser import Denoiser

OPSET = 20
"""OpenVINO recognises attention at 20 and 23; at 20 it shares the graph with ONNX Runtime."""


class OpenVino:
    """One compiled model per number of rows and words: static shapes are 10 to 25 % faster."""

    def __init__(
        self, model: Path, taps: Sequence[Tap], cache: Path, threads: int, precision: str
    ) -> None:
        import openvino

        from engines.export import NOISE

        self.core = openvino.Core()
        try:
            self.model = self.core.read_model(model)
        except Exception as error:
            line = str(error).strip().splitlines()[-1]
            raise EngineError(
                f"OpenVINO cannot open {model}: {line}; delete {model.parent} and run again"
            ) from error
        self.names = [NOISE, *(tap.layer for tap in taps)]
        # A tensor keeps all names that it had before nodes were merged; one must be the expected.
        outputs = [output.get_names() for output in self.model.outputs]
        if len(outputs) != len(self.names) or not all(
            name in names for name, names in zip(self.names, outputs, strict=True)
        ):
            shown = [sorted(names) for names in outputs]
            raise EngineError(
                f"{model} has outputs {shown}, expected {self.names}; "
                f"delete {model.parent} and run again"
            )
        self.paths = {tap.layer: tap.path for tap in taps}
        self.source = model.parent.name
        self.cache = cache / "openvino"
        self.threads = threads
        self.precision = precision
        self.requests: dict[tuple[object, ...], Any] = {}

    def __call__(self, latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        """Run the denoiser once; the outputs are written into new tensors."""
        key = (len(latents), *conditioning.shapes.items())
        if key not in self.requests:
            compiled = self._compiled(latents, conditioning, profiled=False)
            self.requests[key] = compiled.create_infer_request()
        return self._run(self.requests[key], latents, timestep, conditioning)

    def layer_times(
        self, latents: Tensor, timestep: float, conditioning: Conditioning, calls: int
    ) -> LayerTimes:
        """Times of OpenVINO's nodes by its counters; a fused node counts for its first module."""
        compiled = self._compiled(latents, conditioning, profiled=True)
        origins = {
            node.get_friendly_name(): node.get_rt_info()["originalLayersNames"].astype(str)
            for node in compiled.get_runtime_model().get_ops()
            if "originalLayersNames" in node.get_rt_info()
        }
        request = compiled.create_infer_request()
        self._run(request, latents, timestep, conditioning)
        # OpenVINO gives means over all calls so far; the first call, not counted, is subtracted.
        first = {
            info.node_name: info.real_time.total_seconds() for info in request.get_profiling_info()
        }
        start = time.perf_counter()
        for _ in range(calls):
            self._run(request, latents, timestep, conditioning)
        total = time.perf_counter() - start
        entries = []
        for info in request.get_profiling_info():
            name = info.node_name
            # A tapped node has its output's name.
            module = self.paths.get(name) or module_of(f"{name},{origins.get(name)}")
            spent = (calls + 1) * info.real_time.total_seconds() - first[name]
            # The means are rounded to microseconds, so that the difference can be below zero.
            entries.append(LayerTime(module, info.node_type, max(spent, 0.0)))
        return LayerTimes(merged(entries, calls), total / calls)

    def _run(
        self, request: Any, latents: Tensor, timestep: float, conditioning: Conditioning
    ) -> Prediction:
        import openvino
        import torch

        inputs = {
            "latents": latents.float().contiguous(),
            "timestep": torch.tensor(timestep, dtype=torch.float32),
            **{name: value.float().contiguous() for name, value in conditioning.tensors.items()},
        }
        for name, value in inputs.items():
            request.set_tensor(name, openvino.Tensor(value.numpy(), shared_memory=True))
        outputs = [torch.empty(list(port.shape)) for port in request.model_outputs]
        for site, value in enumerate(outputs):
            request.set_output_tensor(site, openvino.Tensor(value.numpy(), shared_memory=True))
        request.infer()
        return Prediction(outputs[0], dict(zip(self.names[1:], outputs[1:], strict=True)))

    def _compiled(self, latents: Tensor, conditioning: Conditioning, profiled: bool) -> Any:
        """The model for these shapes, compiled now or cached.

        OpenVINO's own model cache does not detect damaged files, so the blob is cached here with a
        checksum. Raises EngineError if OpenVINO would compute in another precision.
        """
        import openvino

        from engines.cache import cached_folder, key_of

        settings = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            # Pinned threads would share a core with torch or another process.
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": profiled,
        }
        shapes = {"latents": list(latents.shape), "timestep": []}
        shapes |= {name: list(shape) for name, shape in conditioning.shapes.items()}
        facts = {
            "settings": settings,
            "shapes": shapes,
            "version": openvino.get_version(),
            "processor": self.core.get_property("CPU", "FULL_DEVICE_NAME"),
            "can": sorted(self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        }
        fresh: list[Any] = []

        def make(folder: Path) -> None:
            self.model.reshape(shapes)
            fresh.append(self.core.compile_model(self.model, "CPU", settings))
            (folder / "model.blob").write_bytes(fresh[0].export_model().getbuffer())

        folder = cached_folder(self.cache / f"{self.source}-{key_of(facts)}", make)
        blob = (folder / "model.blob").read_bytes() if not fresh else b""
        compiled = fresh[0] if fresh else self.core.import_model(blob, "CPU", settings)
        actual = compiled.get_property("INFERENCE_PRECISION_HINT")
        if actual != getattr(openvino.Type, self.precision):
            raise EngineError(
                f"OpenVINO would compute in {actual.get_type_name()}, not {self.precision}; "
                "choose another engine"
            )
        return compiled


def unavailable(precision: str) -> str | None:
    """The reason why OpenVINO cannot compute in ``f32`` or ``bf16`` here; None if it can."""
    if find_spec("openvino") is None:
        return "OpenVINO is not installed; install the extra: pip install 'scenebench[openvino]'"
    if precision == "bf16":
        import openvino

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return (
                "this processor does not compute in bf16; "
                "there is nothing to install: use the engine openvino (fp32)"
            )
    return None


def opened(
    denoiser: Denoiser, taps: Sequence[Tap], cache: Path, threads: int, precision: str
) -> OpenVino:
    """Open the engine on the ONNX file of ``denoiser`` that all engines share."""
    from engines.export import exported

    return OpenVino(exported(denoiser, taps, OPSET, cache), taps, cache, threads, precision)
