from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from engines.backends.torch_compile import BACKEND
from engines.backends.torch_eager import TorchEager
from extract.taps import self_attention_taps


@pytest.mark.slow
def test_a_compiled_network_gives_every_output_and_each_call_its_own(cache: Path) -> None:
    if BACKEND.unavailable():
        pytest.skip(str(BACKEND.unavailable()))
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=8,
        norm_num_groups=4,
    )
    unet.requires_grad_(False).eval()
    taps = self_attention_taps(unet)
    engine, eager = BACKEND.open(unet, taps, cache, 1), TorchEager(unet, taps)
    generator = torch.Generator().manual_seed(0)
    kept = []
    for timestep in (1.0, 500.0):
        latents, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 8, generator=generator)
        kept.append((engine(latents, timestep, text), eager(latents, timestep, text)))
    for found, truth in kept:
        assert list(found.taps) == list(truth.taps)
        torch.testing.assert_close(found.noise, truth.noise, rtol=1e-4, atol=1e-5)
        for name in truth.taps:
            torch.testing.assert_close(found.taps[name], truth.taps[name], rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in unet.modules())


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "install g++" in str(BACKEND.unavailable())
