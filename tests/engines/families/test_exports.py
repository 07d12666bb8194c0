"""Exported graphs of every family: ONNX Runtime and OpenVINO against torch, per tap and step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from engines.backends import onnxruntime, openvino
from engines.backends.torch_eager import TorchEager
from engines.components import Components
from engines.engine import Backend, Tap
from tests.engines.families.conftest import Models
from tests.engines.families.reference import TRANSFORMERS, UNETS, all_taps, relative

BACKENDS = {"onnxruntime": onnxruntime.BACKEND, "openvino": openvino.BACKEND}
TIMESTEPS = (1000.0, 500.0, 10.0)
TOLERANCE = 1e-4


def errors(
    parts: Components, taps: Sequence[Tap], backend: Backend, cache: Path
) -> dict[str, float]:
    """Largest relative difference from torch over time steps, by output; NaN if there is one."""
    engine = backend.open(parts.denoiser, taps, cache, 1)
    reference = TorchEager(parts.denoiser, taps)
    draw = torch.Generator().manual_seed(0)
    worst: dict[str, float] = {}
    # The second batch has another number of rows than the traced one.
    for rows in (3, 1):
        conditioning = parts.embed(["a red sphere on a sand floor", "", "an orange cone"])[:rows]
        for timestep in TIMESTEPS:
            latents = torch.randn(rows, *parts.latent_shape, generator=draw)
            expected = reference(latents, timestep, conditioning)
            actual = engine(latents, timestep, conditioning)
            assert list(actual.taps) == list(expected.taps)
            pairs = {"noise": (actual.noise, expected.noise)}
            pairs |= {layer: (actual.taps[layer], expected.taps[layer]) for layer in expected.taps}
            for name, (value, truth) in pairs.items():
                assert value.shape == truth.shape
                error = relative(value, truth)
                # max() would drop a NaN.
                worst[name] = error if math.isnan(error) else max(worst.get(name, 0.0), error)
    return worst


@pytest.mark.parametrize(
    ("kind", "other", "engines"),
    [
        pytest.param("sd35", "gated", ["onnxruntime", "openvino"], marks=pytest.mark.slow),
        ("sana", "key", ["onnxruntime", "openvino"]),
    ],
)
def test_two_families_are_exported_with_two_kinds_of_taps(
    models: Models, cache: Path, kind: str, other: str, engines: list[str]
) -> None:
    """Sana divides by a sum to which 1e-15 is added: without it there would be NaN."""
    parts = models(kind).parts
    taps = (*parts.taps(), *parts.taps(other))
    for engine in engines:
        worst = errors(parts, taps, BACKENDS[engine], cache)
        assert all(error <= TOLERANCE for error in worst.values()), worst


@pytest.mark.slow
@pytest.mark.parametrize("engine", BACKENDS)
@pytest.mark.parametrize("kind", [*TRANSFORMERS, *UNETS])
def test_every_family_is_exported_with_every_tap(
    models: Models, cache: Path, kind: str, engine: str
) -> None:
    parts = models(kind).parts
    worst = errors(parts, all_taps(parts), BACKENDS[engine], cache)
    assert len(worst) == 1 + len(all_taps(parts))
    assert all(error <= TOLERANCE for error in worst.values()), worst
