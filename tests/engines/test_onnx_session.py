"""ONNX Runtime's GPU engines with a fake library that computes on the CPU."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from engines.backends import onnxruntime_cuda, onnxruntime_tensorrt
from engines.conditioning import Conditioning
from engines.engine import Tap
from engines.errors import EngineError
from engines.layer_times import Profiled
from engines.onnx_session import OnnxRuntime, TimedOnnxRuntime, gpu_missing, heavy_on_cpu
from tests.engines.fakes import HANDLE, FakeStream

TAPS = (Tap("down0.0", "a.to_out.0"),)


class Binding:
    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def bind_input(
        self, name: str, device: str, _id: int, kind: Any, shape: tuple[int, ...], address: int
    ) -> None:
        assert device == "cpu"
        size = math.prod(shape) * np.dtype(kind).itemsize
        raw = (ctypes.c_ubyte * size).from_address(address)
        self.arrays[name] = np.frombuffer(raw, kind).reshape(shape)

    bind_output = bind_input


class Session:
    def __init__(self, module: FakeRuntime, providers: list[Any]) -> None:
        self.module = module
        self.providers = [entry if isinstance(entry, str) else entry[0] for entry in providers]

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"] if self.module.falls_back else self.providers

    def get_inputs(self) -> list[SimpleNamespace]:
        kinds = {"latents": self.module.kind, "timestep": "tensor(float)", "text": self.module.kind}
        return [SimpleNamespace(name=name, type=kind) for name, kind in kinds.items()]

    def get_outputs(self) -> list[SimpleNamespace]:
        shapes = {"noise": ["batch", 4, 2, 2], "down0.0": ["batch", 4, 4]}
        return [
            SimpleNamespace(name=name, type=self.module.kind, shape=shape)
            for name, shape in shapes.items()
        ]

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        assert self.module.entries["session.record_ep_graph_assignment_info"] == "1"

        def part(name: str, kinds: list[str]) -> SimpleNamespace:
            return SimpleNamespace(
                ep_name=name, get_nodes=lambda: [SimpleNamespace(op_type=kind) for kind in kinds]
            )

        return [part(name, kinds) for name, kinds in self.module.placed.items()]

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        arrays = binding.arrays
        arrays["noise"][:] = arrays["latents"] * arrays["timestep"]
        arrays["down0.0"][:] = arrays["latents"].reshape(-1, 4, 4) + 1


class FakeRuntime(ModuleType):
    def __init__(self) -> None:
        super().__init__("onnxruntime")
        self.__spec__ = ModuleSpec("onnxruntime", None)
        self.falls_back = False
        self.kind = "tensor(float)"
        self.entries: dict[str, str] = {}
        self.placed = {
            "CUDAExecutionProvider": ["Conv", "MatMul"],
            "CPUExecutionProvider": ["Shape", "Accumulator", "Mul"],
        }
        self.requested: list[Any] = []

    def SessionOptions(self) -> SimpleNamespace:
        return SimpleNamespace(add_session_config_entry=self.entries.__setitem__)

    def InferenceSession(self, _model: Path, _options: object, providers: list[Any]) -> Session:
        self.requested = providers
        return Session(self, providers)

    def get_available_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake = FakeRuntime()
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    return fake


@pytest.mark.parametrize(
    ("backend", "kind", "dtype"),
    [
        (onnxruntime_cuda, "tensor(float)", torch.float32),
        (onnxruntime_tensorrt, "tensor(float16)", torch.float16),
    ],
)
def test_it_runs_on_the_stream(
    runtime: FakeRuntime, backend: Any, kind: str, dtype: torch.dtype
) -> None:
    runtime.kind = kind
    stream = FakeStream()
    engine = OnnxRuntime(Path("model.onnx"), TAPS, 1, backend.PROVIDER, stream)
    assert runtime.requested[0][0] == backend.PROVIDER.name
    assert "CPUExecutionProvider" not in [name for name, _ in runtime.requested]
    assert all(options["user_compute_stream"] == str(HANDLE) for _, options in runtime.requested)
    latents = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    prediction = engine(latents, 2.0, Conditioning({"text": torch.zeros(3, 5, 6)}))
    assert stream.runs == 1
    assert prediction.noise.dtype == torch.float32
    assert prediction.taps["down0.0"].dtype == dtype
    assert torch.equal(prediction.noise, (latents.to(dtype) * 2).float())
    assert torch.equal(prediction.taps["down0.0"], latents.to(dtype).reshape(3, 4, 4) + 1)


def test_the_precision_that_is_stated_is_the_one_asked_for() -> None:
    assert onnxruntime_cuda.BACKEND.precision == "fp32"
    assert onnxruntime_cuda.PROVIDER.options["use_tf32"] == "0"
    assert onnxruntime_tensorrt.BACKEND.precision == "fp16"


def test_a_silent_fallback_is_an_error(runtime: FakeRuntime) -> None:
    runtime.falls_back = True
    with pytest.raises(
        EngineError, match="fell back to CPUExecutionProvider where CUDAExecutionProvider"
    ):
        OnnxRuntime(Path("model.onnx"), TAPS, 1, onnxruntime_cuda.PROVIDER, FakeStream())


@pytest.mark.parametrize(
    "kind", ["Conv", "FusedConv", "MultiHeadAttention", "SkipLayerNormalization", "Gemm"]
)
def test_real_work_that_is_left_to_the_cpu_is_an_error(runtime: FakeRuntime, kind: str) -> None:
    runtime.placed["CPUExecutionProvider"].append(kind)
    with pytest.raises(
        EngineError,
        match=f"1 of the denoiser's nodes, such as {kind}, on the CPU, where CUDAExecution",
    ):
        OnnxRuntime(Path("model.onnx"), TAPS, 1, onnxruntime_cuda.PROVIDER, FakeStream())


def test_the_real_library_tells_what_runs_on_the_cpu(
    save_saliency: Callable[..., Path], tmp_path: Path
) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    model = save_saliency(tmp_path / "conv.onnx", 4, sigmoid=False)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert heavy_on_cpu(session) == ["Conv"]


def test_a_library_that_does_not_tell_where_nodes_run_is_refused() -> None:
    with pytest.raises(EngineError, match=r"install onnxruntime-gpu 1\.24"):
        heavy_on_cpu(SimpleNamespace())


def test_only_on_the_cpu_an_engine_tells_the_times_of_layers(runtime: FakeRuntime) -> None:
    runtime.kind = "tensor(float)"
    on_gpu = OnnxRuntime(Path("model.onnx"), TAPS, 1, onnxruntime_cuda.PROVIDER, FakeStream())
    assert not isinstance(on_gpu, Profiled)
    assert isinstance(TimedOnnxRuntime(Path("model.onnx"), TAPS, 1), Profiled)


def test_a_missing_provider_names_the_extra(runtime: FakeRuntime) -> None:
    del runtime
    reason = str(gpu_missing("CUDAExecutionProvider"))
    assert "CUDAExecutionProvider" in reason
    assert "scenebench[gpu]" in reason
