"""Runs of Stable Diffusion 2 and SDXL from end to end, every self-attention probed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.config import Config
from bench.run import run
from bench.runs.results import Results, read_results
from engines.cache import default_cache
from engines.load import load


def finished(model: Path, engine: str, out: Path, **options: object) -> Results:
    config = Config(
        model=str(model),
        engine=engine,
        labeler="tiny",
        limit=12,
        sampler_steps=2,
        random_networks=0,
        threads=1,
        out=str(out),
        **options,
    )
    return read_results(run(config).path)


@pytest.mark.parametrize("kind", ["sd2", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_every_self_attention_is_scored(
    kind: str, small_models: dict[str, Path], tmp_path: Path
) -> None:
    results = finished(small_models[kind], "torch_eager", tmp_path / "run", baselines=("text",))
    assert list(results.layers) == [tap.layer for tap in load(small_models[kind]).taps()]
    for task in results.tasks.values():
        for layer in results.layers:
            for step in results.steps:
                (cell,) = task.where(network="trained", layer=layer, step=step, probe="activations")
                assert np.isfinite(task.score(cell)).all()
        # A prompt's words, and none of the other rows of an SDXL text.
        assert task.where(network="text", layer="pooled")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_onnxruntime_scores_as_pytorch_does(
    kind: str, small_models: dict[str, Path], tmp_path: Path
) -> None:
    eager, other = (
        finished(small_models[kind], name, tmp_path / name)
        for name in ("torch_eager", "onnxruntime")
    )
    for name, task in eager.tasks.items():
        means = [np.nanmean(results.tasks[name].scores, axis=-1) for results in (eager, other)]
        assert task.cells == other.tasks[name].cells
        assert np.nanmax(np.abs(means[0] - means[1])) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_predict_what_pytorch_does(engine: str, small_models: dict[str, Path]) -> None:
    import torch

    from bench.registry import plugin
    from engines.backends.torch_eager import BACKEND

    parts = load(small_models["sdxl"])
    taps = parts.taps()
    text = parts.embed(["a red sphere", ""])
    latents = torch.randn(2, *parts.latent_shape, generator=torch.Generator().manual_seed(0))
    truth = BACKEND.open(parts.denoiser, taps, default_cache(), 1)(latents, 500.0, text)
    other = plugin("engine", engine).open(parts.denoiser, taps, default_cache(), 1)(
        latents, 500.0, text
    )
    assert list(other.taps) == list(truth.taps)
    torch.testing.assert_close(other.noise, truth.noise, rtol=1e-4, atol=1e-5)
    for layer, activation in truth.taps.items():
        torch.testing.assert_close(other.taps[layer], activation, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(truth.noise[0], truth.noise[1], rtol=1e-2)
