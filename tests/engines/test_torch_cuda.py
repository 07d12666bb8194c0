"""PyTorch's GPU engine, run on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from engines.backends import torch_cuda, torch_cuda_fp16
from engines.backends.torch_eager import TorchEager, clock_of
from engines.components import Components
from engines.engine import Tap
from engines.torch_cuda import opened


@pytest.fixture
def tf32() -> Iterator[None]:
    """Turn TF32 on during the test."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    yield
    for backend, value in zip(backends, before, strict=True):
        backend.allow_tf32 = value


@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float16, 0.02)])
def test_a_copy_computes_in_its_own_precision_and_the_network_stays_as_it_was(
    components: Components,
    taps: tuple[Tap, ...],
    eager: TorchEager,
    dtype: torch.dtype,
    limit: float,
) -> None:
    engine = opened(components.denoiser, taps, 1, dtype == torch.float16, "cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    latents = torch.randn(2, *components.latent_shape, generator=torch.Generator().manual_seed(0))
    text = components.embed(["a dog", "a cone"])
    actual, expected = engine(latents, 500.0, text), eager(latents, 500.0, text)
    assert actual.noise.dtype == dtype
    assert list(actual.taps) == list(expected.taps)
    for layer, value in expected.taps.items():
        assert actual.taps[layer].dtype == dtype
        assert float((actual.taps[layer].float() - value).norm() / value.norm()) <= limit
    assert components.denoiser.dtype == torch.float32


def test_the_precision_that_is_stated_is_the_one_asked_for() -> None:
    assert (torch_cuda.BACKEND.precision, torch_cuda_fp16.BACKEND.precision) == ("fp32", "fp16")
    assert torch_cuda.BACKEND.device == torch_cuda_fp16.BACKEND.device == "cuda"


def test_a_cards_clock_waits_for_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    clock_of(torch.device("cpu"))()
    assert waits == []
    clock_of(torch.device("cuda", 2))()
    assert waits == [torch.device("cuda", 2)]
