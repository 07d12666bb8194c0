"""The TensorRT engine with a fake library that computes with torch on the CPU."""

from __future__ import annotations

import ctypes
import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from engines import tensorrt_engine
from engines.conditioning import Conditioning
from engines.engine import Prediction, Tap, reserved
from engines.errors import EngineError
from engines.tensorrt_dialect import Plan
from engines.tensorrt_engine import TensorRT
from tests.engines.fakes import HANDLE, DataType, FakeStream

TAPS = (Tap("down0.0", "a.to_out.0"), Tap("mid.0", "b.to_out.0"))
GIB = 2**30


def computed(latents: Tensor, timestep: Tensor, text: Tensor) -> dict[str, Tensor]:
    mean = text.float().mean((1, 2))
    return {
        "noise": latents * float(timestep) + mean[:, None, None, None],
        "down0.0": latents.flatten(2).transpose(1, 2) + 1,
        "mid.0": text * 2,
    }


class FakeContext:
    def __init__(self, trt: FakeLibrary) -> None:
        self.trt = trt
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_device_memory(self, _address: int, size: int) -> None:
        assert size >= self.trt.scratch

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return not (name == "latents" and shape[0] > self.trt.most)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        n, c, h, w = self.shapes["latents"]
        outputs = {
            "noise": (n, c, h, w),
            "down0.0": (n, h * w, c),
            "mid.0": self.shapes["text"],
        }
        return (self.shapes | outputs)[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def memory(self, name: str) -> Tensor:
        shape = self.get_tensor_shape(name)
        dtype = torch.float32 if name == "timestep" else torch.float16
        size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
        raw = (ctypes.c_ubyte * size).from_address(self.addresses[name])
        return torch.frombuffer(raw, dtype=dtype).view(shape)

    def is_stream_capturable(self, handle: int) -> bool:
        assert handle == HANDLE
        return self.trt.capturable

    def execute_async_v3(self, handle: int) -> bool:
        assert handle == HANDLE
        if self.trt.fails:
            return False
        inputs = (self.memory(name) for name in ("latents", "timestep", "text"))
        for name, value in computed(*inputs).items():
            self.memory(name).copy_(value)
        return True


class FakeEngine:
    def __init__(self, trt: FakeLibrary) -> None:
        self.trt = trt
        self.names = ["latents", "timestep", "text", "noise", "down0.0", "mid.0"][: trt.tensors]
        self.num_io_tensors = len(self.names)
        self.device_memory_size_v2 = trt.scratch

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT if name == "timestep" else DataType.HALF

    def create_execution_context(self, strategy: str) -> FakeContext:
        assert strategy == "user managed"
        return FakeContext(self.trt)


class FakeRtxEngine(FakeEngine):
    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace(strategy=None)
        config.set_execution_context_allocation_strategy = lambda strategy: setattr(
            config, "strategy", strategy
        )
        return config

    def create_execution_context(self, config: Any) -> FakeContext:
        assert config.dynamic_shapes_kernel_specialization_strategy == "at once"
        return super().create_execution_context(config.strategy)


class FakeLibrary:
    __name__ = "tensorrt"
    DataType = DataType
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")

    class ILogger:
        pass

    def __init__(self, version: str = "11.0.0") -> None:
        self.__version__ = version
        self.fails = False
        self.scratch = 64
        self.tensors = 6
        self.most = 4
        self.capturable = True
        self.kind = FakeEngine
        self.built: list[int] = []

    def Runtime(self, _logger: object) -> SimpleNamespace:
        return SimpleNamespace(
            deserialize_cuda_engine=lambda data: self.kind(self) if data == b"plan" else None
        )


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    fake = FakeLibrary()

    def build(_model: Path, sizes: dict[str, Any], **_: object) -> Plan:
        fake.built.append(sizes["latents"].most[0])
        fake.most = sizes["latents"].most[0]
        return Plan(b"plan", (), ())

    monkeypatch.setattr(tensorrt_engine, "build_plan", build)
    monkeypatch.setattr(
        tensorrt_engine, "listener", lambda _trt: SimpleNamespace(lines=["ERROR out of luck"])
    )
    return fake


def opened(trt: Any, folder: Path, stream: FakeStream | None = None) -> TensorRT:
    return TensorRT(
        trt, folder / "graph-weights" / "model.onnx", TAPS, "fp16", stream or FakeStream(), folder
    )


def drawn(rows: int, words: int = 5) -> tuple[Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(rows)
    latents = torch.randn(rows, 4, 2, 2, generator=generator)
    return latents, Conditioning({"text": torch.randn(rows, words, 3, generator=generator)})


def test_every_output_has_its_own_value_and_belongs_to_the_caller(
    trt: FakeLibrary, tmp_path: Path
) -> None:
    engine, pairs = opened(trt, tmp_path), []
    for rows, timestep in ((3, 2.0), (1, 3.0), (3, 4.0), (2, 5.0)):
        latents, text = drawn(rows)
        expected = computed(latents.half(), torch.tensor(timestep), text["text"].half())
        pairs.append((engine(latents, timestep, text), expected))
    for prediction, expected in pairs:
        assert list(prediction.taps) == ["down0.0", "mid.0"]
        assert prediction.noise.dtype == torch.float32
        assert torch.equal(prediction.noise.half(), expected["noise"].half())
        for name, tap in prediction.taps.items():
            assert torch.equal(tap, expected[name].half())


def test_fewer_rows_need_no_new_plan_and_each_shape_one_capture(
    trt: FakeLibrary, tmp_path: Path
) -> None:
    stream = FakeStream()
    engine = opened(trt, tmp_path, stream)
    for rows in (3, 1, 3, 2, 1):
        latents, text = drawn(rows)
        engine(latents, 1.0, text)
    assert trt.built == [3]
    assert stream.captures == 3
    engine(*[drawn(4)[0], 1.0, drawn(4)[1]])
    assert trt.built == [3, 4]


def test_rows_that_are_announced_need_no_second_plan(trt: FakeLibrary, tmp_path: Path) -> None:
    engine = reserved(opened(trt, tmp_path), 8)
    for rows in (2, 8, 5):
        latents, text = drawn(rows)
        expected = computed(latents.half(), torch.tensor(1.0), text["text"].half())
        assert torch.equal(engine(latents, 1.0, text).taps["mid.0"], expected["mid.0"])
    assert trt.built == [8]


def test_an_engine_that_is_not_built_for_rows_is_left_alone() -> None:
    def engine(latents: Tensor, _timestep: float, _text: Conditioning) -> Prediction:
        return Prediction(latents, {})

    assert reserved(engine, 8) is engine


def test_what_cannot_be_captured_runs_directly(trt: FakeLibrary, tmp_path: Path) -> None:
    trt.capturable = False
    stream = FakeStream()
    engine = opened(trt, tmp_path, stream)
    for rows, timestep in ((2, 3.0), (2, 4.0)):
        latents, text = drawn(rows)
        expected = computed(latents.half(), torch.tensor(timestep), text["text"].half())
        assert torch.equal(engine(latents, timestep, text).noise.half(), expected["noise"].half())
    assert stream.captures == 0


def test_kernels_for_a_shape_are_made_at_once_where_a_library_can_choose(
    trt: FakeLibrary, tmp_path: Path
) -> None:
    trt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="at once")  # type: ignore[attr-defined]
    trt.kind = FakeRtxEngine
    latents, text = drawn(2)
    expected = computed(latents.half(), torch.tensor(1.0), text["text"].half())
    assert torch.equal(opened(trt, tmp_path)(latents, 1.0, text).taps["mid.0"], expected["mid.0"])


def test_a_kept_plan_is_used_again(trt: FakeLibrary, tmp_path: Path) -> None:
    latents, text = drawn(2)
    for _ in range(2):
        opened(trt, tmp_path)(latents, 1.0, text)
    assert trt.built == [2]


@pytest.mark.parametrize("other", ["card", "version"])
def test_a_plan_of_another_card_or_version_is_rebuilt_and_it_says_so(
    trt: FakeLibrary, tmp_path: Path, caplog: pytest.LogCaptureFixture, other: str
) -> None:
    latents, text = drawn(2)
    opened(trt, tmp_path)(latents, 1.0, text)
    stream = FakeStream("Card 10 (compute capability 9.0)") if other == "card" else FakeStream()
    if other == "version":
        trt.__version__ = "10.9"
    with caplog.at_level(logging.WARNING):
        opened(trt, tmp_path, stream)(latents, 1.0, text)
    assert trt.built == [2, 2]
    assert {"card": "card Card 9", "version": "version 11.0.0"}[other] in caplog.text
    made = [
        json.loads(file.read_text())[other] for file in tmp_path.glob("tensorrt/*/made_for.json")
    ]
    assert len(set(made)) == 2


def test_a_card_that_is_too_small_is_told_how_much_is_needed(
    trt: FakeLibrary, tmp_path: Path
) -> None:
    trt.scratch = 3 * GIB
    with pytest.raises(EngineError, match=r"needs 3\.0 GiB, free are 1\.0 GiB"):
        opened(trt, tmp_path)(drawn(2)[0], 1.0, drawn(2)[1])


def test_a_run_that_fails_is_an_error_with_the_librarys_words(
    trt: FakeLibrary, tmp_path: Path
) -> None:
    trt.fails = True
    with pytest.raises(EngineError, match="out of luck"):
        opened(trt, tmp_path)(drawn(2)[0], 1.0, drawn(2)[1])


def test_a_plan_without_a_tap_is_refused(trt: FakeLibrary, tmp_path: Path) -> None:
    trt.tensors = 5
    with pytest.raises(EngineError, match=r"mid\.0"):
        opened(trt, tmp_path)(drawn(2)[0], 1.0, drawn(2)[1])


def test_a_plan_that_cannot_be_read_is_named(
    trt: FakeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_engine, "build_plan", lambda *_a, **_k: Plan(b"other", (), ()))
    with pytest.raises(EngineError, match=r"cannot load .*out of luck.*delete"):
        opened(trt, tmp_path)(drawn(2)[0], 1.0, drawn(2)[1])
