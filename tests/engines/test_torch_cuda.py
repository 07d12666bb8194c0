"""PyTorch's engine of a card, with the CPU in the card's place."""

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
    """A process in which TF32 is on."""
    sites = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [site.allow_tf32 for site in sites]
    for site in sites:
        site.allow_tf32 = True
    yield
    for site, value in zip(sites, before, strict=True):
        site.allow_tf32 = value


@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float16, 0.02)])
def test_a_copy_computes_in_its_own_precision_and_the_network_stays_as_it_was(
    components: Components,
    taps: tuple[Tap, ...],
    eager: TorchEager,
    dtype: torch.dtype,
    limit: float,
) -> None:
    engine = opened(components.unet, taps, 1, dtype == torch.float16, "cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    latents = torch.randn(2, *components.latent_shape, generator=torch.Generator().manual_seed(0))
    text = components.embed(["a dog", "a cone"])
    found, truth = engine(latents, 500.0, text), eager(latents, 500.0, text)
    assert found.noise.dtype == dtype
    assert list(found.taps) == list(truth.taps)
    for layer, value in truth.taps.items():
        assert found.taps[layer].dtype == dtype
        assert float((found.taps[layer].float() - value).norm() / value.norm()) <= limit
    assert components.unet.dtype == torch.float32


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
