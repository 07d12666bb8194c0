from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines import openvino_model
from engines.backends.openvino import BACKEND
from engines.components import Components
from engines.engine import Tap
from engines.errors import EngineError
from engines.export import exported
from engines.openvino_model import OPSET, OpenVino

pytest.importorskip("openvino")


@pytest.fixture
def engine(components: Components, taps: tuple[Tap, ...], cache: Path) -> OpenVino:
    return BACKEND.open(components.denoiser, taps, cache, 1)


def test_a_kept_model_gives_the_same_bits_and_is_not_compiled_again(
    engine: OpenVino, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.randn(2, *components.latent_shape, generator=torch.Generator().manual_seed(0))
    text = components.embed(["a dog", "a cone"])
    first = engine(latents, 500.0, text)
    engine.requests.clear()
    monkeypatch.setattr(engine, "model", None)
    again = engine(latents, 500.0, text)
    assert torch.equal(first.noise, again.noise)
    assert all(torch.equal(first.taps[name], again.taps[name]) for name in first.taps)


def test_a_damaged_kept_model_is_refused(
    engine: OpenVino, components: Components, tmp_path: Path
) -> None:
    engine.cache = tmp_path
    latents, text = torch.zeros(1, *components.latent_shape), components.embed(["a dog"])
    engine(latents, 1.0, text)
    (blob,) = tmp_path.rglob("model.blob")
    stored = bytearray(blob.read_bytes())
    stored[len(stored) // 2] ^= 1
    blob.write_bytes(stored)
    engine.requests.clear()
    with pytest.raises(EngineError, match="damaged"):
        engine(latents, 1.0, text)


def test_a_model_with_other_outputs_is_refused(
    components: Components, taps: tuple[Tap, ...], cache: Path
) -> None:
    model = exported(components.denoiser, taps, OPSET, cache)
    for wrong in (taps[::-1], taps[1:]):
        with pytest.raises(EngineError, match="has outputs"):
            OpenVino(model, wrong, cache, 1, "f32")


def test_what_is_no_onnx_file_is_refused_by_name(taps: tuple[Tap, ...], tmp_path: Path) -> None:
    file = tmp_path / "text.onnx"
    file.write_bytes(b"not a model")
    with pytest.raises(EngineError, match="delete") as caught:
        OpenVino(file, taps, tmp_path, 1, "f32")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_precision_than_asked_is_an_error(
    engine: OpenVino, components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_model = engine.core.compile_model

    def actual_precision(precision: str) -> str:
        compiled = compile_model(engine.model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    precisions = ("f16", "bf16")
    other = next((name for name in precisions if actual_precision(name) == name), None)

    class OtherCore:
        get_property = engine.core.get_property

        def compile_model(self, model: object, device: str, settings: dict[str, object]) -> object:
            return compile_model(model, device, {**settings, "INFERENCE_PRECISION_HINT": other})

    if other:
        monkeypatch.setattr(engine, "core", OtherCore())
    else:
        # On a processor with fp32 only, OpenVINO silently computes in fp32.
        monkeypatch.setattr(engine, "precision", "bf16")
    engine.cache = tmp_path
    with pytest.raises(EngineError, match="not f32" if other else "not bf16"):
        engine(torch.zeros(1, *components.latent_shape), 1.0, components.embed(["a dog"]))


def test_a_processor_without_bf16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr(openvino, "Core", Core)
    assert "bf16" in str(openvino_model.unavailable("bf16"))
    assert openvino_model.unavailable("f32") is None
