"""An ONNX Runtime session whose inputs and outputs are bound to torch's memory, on any device."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.engine import Prediction, Tap
from engines.errors import EngineError
from engines.layer_times import LayerTime, LayerTimes, merged, module_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engines.conditioning import Conditioning
    from engines.cuda_stream import DeviceStream

OPSET = 20
"""At 23 attention is one node, whose CPU kernel is slower: 19 to 25 s a step, not 11 to 14 s."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider of ONNX Runtime."""

    name: str
    """Such as ``CUDAExecutionProvider``."""
    options: Mapping[str, str] = field(default_factory=dict)
    behind: tuple[tuple[str, Mapping[str, str]], ...] = ()
    """Providers on the same device for nodes that the first does not support."""


CPU = Provider("CPUExecutionProvider")
_HEAVY = re.compile("Conv|MatMul|Gemm|Attention|Norm|Softmax|Resize|Sigmoid|Gelu|Erf")
"""Operators, fused or not, that compute on activations."""


class OnnxRuntime:
    """An engine that writes its outputs into new tensors on the provider's device."""

    def __init__(
        self,
        model: Path,
        taps: Sequence[Tap],
        threads: int,
        provider: Provider = CPU,
        stream: DeviceStream | None = None,
    ) -> None:
        from engines.export import NOISE

        self.model = model
        self.threads = threads
        self.provider = provider
        self.stream = stream
        self.names = [NOISE, *(tap.layer for tap in taps)]
        self.session = self._open()
        outputs = [output.name for output in self.session.get_outputs()]
        if outputs != self.names:
            raise EngineError(
                f"{model} has outputs {outputs}, expected {self.names}; "
                f"delete {model.parent} and run again"
            )
        self.shapes = [tuple(output.shape[1:]) for output in self.session.get_outputs()]

    def _open(self, profile: Path | None = None) -> Any:
        """Open the model. Raises EngineError if that fails or if another provider would run it."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin while they wait slow down torch between two calls.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        providers: list[Any] = [self.provider.name]
        if self.stream:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            device_options = {
                "device_id": str(self.stream.device.index or 0),
                "user_compute_stream": str(self.stream.handle),
            }
            stack = ((self.provider.name, self.provider.options), *self.provider.behind)
            providers = [(name, {**device_options, **settings}) for name, settings in stack]
        try:
            session = onnxruntime.InferenceSession(self.model, options, providers=providers)
        except Exception as error:
            line = str(error).splitlines()[0]
            if self.stream:
                raise EngineError(
                    f"ONNX Runtime cannot run {self.model} by {self.provider.name}: {line}"
                ) from error
            raise EngineError(
                f"ONNX Runtime cannot open {self.model}: {line}; "
                f"delete {self.model.parent} and run again"
            ) from error
        first = session.get_providers()[0]
        if first != self.provider.name:
            raise EngineError(
                f"ONNX Runtime fell back to {first} where {self.provider.name} was asked for: "
                "its CUDA libraries are missing or of another version; "
                "install those that onnxruntime-gpu names"
            )
        on_cpu = heavy_on_cpu(session) if self.stream else []
        if on_cpu:
            raise EngineError(
                f"ONNX Runtime would compute {len(on_cpu)} of the denoiser's nodes, "
                f"such as {on_cpu[0]}, on the CPU, where {self.provider.name} was asked for; "
                "install another version of onnxruntime-gpu, or use another engine"
            )
        return session

    def __call__(self, latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        """Run the denoiser once."""
        return self._run(self.session, latents, timestep, conditioning)

    def _run(
        self, session: Any, latents: Tensor, timestep: float, conditioning: Conditioning
    ) -> Prediction:
        import torch

        types = {
            value.name: _torch_type(value.type)
            for value in (*session.get_inputs(), *session.get_outputs())
        }
        device = self.stream.device if self.stream else torch.device("cpu")
        values = {"latents": latents, "timestep": torch.tensor(timestep)}
        values |= conditioning.tensors
        inputs = {
            name: value.to(device, types[name]).contiguous() for name, value in values.items()
        }
        outputs = [
            torch.empty(len(latents), *shape, dtype=types[name], device=device)
            for name, shape in zip(self.names, self.shapes, strict=True)
        ]
        binding = session.io_binding()
        # ONNX Runtime keeps pointers only: ``inputs`` and ``outputs`` must outlive the run.
        for name, value in inputs.items():
            binding.bind_input(name, *_address(value))
        for name, value in zip(self.names, outputs, strict=True):
            binding.bind_output(name, *_address(value))
        if self.stream:
            self.stream.run(lambda: session.run_with_iobinding(binding))
        else:
            session.run_with_iobinding(binding)
        return Prediction(outputs[0].float(), dict(zip(self.names[1:], outputs[1:], strict=True)))


class TimedOnnxRuntime(OnnxRuntime):
    """An engine on the CPU with layer times; on a card the profiler times only launches."""

    def __init__(self, model: Path, taps: Sequence[Tap], threads: int) -> None:
        super().__init__(model, taps, threads)
        self.origins: dict[str, str] | None = None

    def layer_times(
        self, latents: Tensor, timestep: float, conditioning: Conditioning, calls: int
    ) -> LayerTimes:
        """Times of nodes by ONNX Runtime's profiler; a fused node counts for its first module."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._open(profile=Path(folder, "profile"))
            self._run(session, latents, timestep, conditioning)
            warm = time.perf_counter_ns()
            for _ in range(calls):
                self._run(session, latents, timestep, conditioning)
            total = (time.perf_counter_ns() - warm) / 1e9
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        kernels = [
            event
            for event in events
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time")
        ]
        # Every call runs the same nodes in the same order; the first call is not counted.
        counted = kernels[len(kernels) // (calls + 1) :]
        entries = (
            LayerTime(self._module(event["name"]), event["args"]["op_name"], event["dur"] / 1e6)
            for event in counted
        )
        return LayerTimes(merged(entries, calls), total / calls)

    def _module(self, event: str) -> str:
        """The module of a profiled node; a blocked convolution has its output's name."""
        import onnx

        if self.origins is None:
            nodes = onnx.load(self.model, load_external_data=False).graph.node
            self.origins = {
                output: module_of(node.name) for node in nodes for output in node.output
            }
        return self.origins.get(
            event.removesuffix("_kernel_time").removesuffix("_nchwc"), module_of(event)
        )


def heavy_on_cpu(session: Any) -> list[str]:
    """Operators on activations that run on the CPU.

    The session must have recorded where its nodes run. Arithmetic on shapes is not counted: GPU
    providers leave it to the CPU by design. Raises EngineError if nothing was recorded.
    """
    try:
        placements = session.get_provider_graph_assignment_info()
    except AttributeError as error:
        raise EngineError(
            "this ONNX Runtime does not tell where its nodes run; "
            "install onnxruntime-gpu 1.24 or later"
        ) from error
    nodes = (node for part in placements if part.ep_name == CPU.name for node in part.get_nodes())
    return [node.op_type for node in nodes if _HEAVY.search(node.op_type)]


def _torch_type(name: str) -> torch.dtype:
    import torch

    return {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}[name]


def _address(value: Tensor) -> tuple[str, int, Any, tuple[int, ...], int]:
    """A tensor's device, type, shape and address, as a binding takes them."""
    import numpy as np
    import torch

    kind = {torch.float32: np.float32, torch.float16: np.float16}[value.dtype]
    return value.device.type, value.device.index or 0, kind, tuple(value.shape), value.data_ptr()


def gpu_missing(provider: str) -> str | None:
    """The reason why ONNX Runtime cannot use ``provider`` here; None if it can."""
    from importlib.util import find_spec

    from engines.cuda_stream import cuda_missing

    if find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed; install the extra: pip install 'scenebench[gpu]'"
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        return (
            f"this ONNX Runtime lacks {provider}; install the extra in its place: "
            "pip uninstall onnxruntime, then pip install 'scenebench[gpu]'"
        )
    return cuda_missing()
