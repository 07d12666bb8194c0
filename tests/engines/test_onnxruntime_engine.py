from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engines.backends.onnxruntime import BACKEND, OPSET
from engines.components import Components
from engines.conditioning import Conditioning
from engines.engine import Prediction, Tap
from engines.errors import EngineError
from engines.export import exported
from engines.onnx_session import OnnxRuntime


def same(a: Prediction, b: Prediction, rows: slice) -> bool:
    return torch.equal(a.noise, b.noise[rows]) and all(
        torch.equal(a.taps[name], b.taps[name][rows]) for name in b.taps
    )


@pytest.fixture(scope="module")
def inputs(components: Components) -> tuple[Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(0)
    prompts = [f"a {shape}" for shape in ("sphere", "box", "cone", "cylinder")]
    text = Conditioning.joined([components.embed(prompts)] * 4)
    return torch.randn(16, *components.latent_shape, generator=generator), text


@pytest.fixture(scope="module", params=[1, 2])
def threaded(
    request: pytest.FixtureRequest, components: Components, taps: tuple[Tap, ...], cache: Path
) -> OnnxRuntime:
    return BACKEND.open(components.denoiser, taps, cache, request.param)


def test_no_number_of_rows_changes_a_bit(
    threaded: OnnxRuntime, inputs: tuple[Tensor, Conditioning]
) -> None:
    latents, text = inputs
    together = threaded(latents, 500.0, text)
    for n in (1, 2, 3, 8, 16):
        assert same(threaded(latents[:n], 500.0, text[:n]), together, slice(n))
    assert same(threaded(latents[11:], 500.0, text[11:]), together, slice(11, None))


def test_no_number_of_threads_changes_a_bit(
    threaded: OnnxRuntime, onnx_engine: OnnxRuntime, inputs: tuple[Tensor, Conditioning]
) -> None:
    latents, text = inputs
    assert same(
        threaded(latents[:4], 500.0, text[:4]), onnx_engine(latents[:4], 500.0, text[:4]), slice(4)
    )


def test_what_is_no_onnx_file_is_refused_by_name(taps: tuple[Tap, ...], tmp_path: Path) -> None:
    for name, content in (("empty.onnx", b""), ("text.onnx", b"not a model")):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(EngineError, match="delete") as caught:
            OnnxRuntime(file, taps, 1)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_model_with_other_outputs_is_refused(
    components: Components, taps: tuple[Tap, ...], cache: Path, onnx_engine: OnnxRuntime
) -> None:
    model = exported(components.denoiser, taps, OPSET, cache)
    assert list(onnx_engine.names[1:]) == [tap.layer for tap in taps]
    for wrong in (taps[::-1], taps[1:], (*taps, Tap("up4.0", "up_blocks.4"))):
        with pytest.raises(EngineError, match="has outputs"):
            OnnxRuntime(model, wrong, 1)
