from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engines.backends.torch_compile import BACKEND
from engines.backends.torch_eager import TorchEager
from engines.conditioning import Conditioning
from engines.denoiser import Denoiser
from engines.families.unet.taps import self_attention_taps


@pytest.mark.slow
def test_a_compiled_network_gives_every_output_and_each_call_its_own(
    cache: Path, one_level: Callable[..., Denoiser]
) -> None:
    if BACKEND.unavailable():
        pytest.skip(str(BACKEND.unavailable()))
    small = one_level()
    taps = self_attention_taps(small.module)
    engine, eager = BACKEND.open(small, taps, cache, 1), TorchEager(small, taps)
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for timestep in (1.0, 500.0):
        latents = torch.randn(2, 4, 8, 8, generator=generator)
        text = Conditioning({"text": torch.randn(2, 5, 8, generator=generator)})
        pairs.append((engine(latents, timestep, text), eager(latents, timestep, text)))
    for actual, expected in pairs:
        assert list(actual.taps) == list(expected.taps)
        torch.testing.assert_close(actual.noise, expected.noise, rtol=1e-4, atol=1e-5)
        for name, tap in expected.taps.items():
            torch.testing.assert_close(actual.taps[name], tap, rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in small.module.modules())


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "install g++" in str(BACKEND.unavailable())
