"""Operations and bytes, against closed forms and torch's own count of unfused attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.profiling.flops import decoding_flops, place_of, work_of
from bench.profiling.layers import block_of, part_of, tapped_layer, work_by
from engines.families.unet import FAMILY
from engines.load import load
from engines.models.sd_v1 import untrained

if TYPE_CHECKING:
    from pathlib import Path

    from engines.components import Components
    from engines.engine import Tap

WORDS = 24


def test_the_count_agrees_with_torchs_on_data_when_attention_is_not_fused(
    components: Components, taps: tuple[Tap, ...]
) -> None:
    work, modules = work_of(components.denoiser, taps, WORDS)
    inputs = torch.randn(1, 4, 16, 16), torch.tensor(1.0), torch.randn(1, WORDS, 64)
    with (
        FlopCounterMode(display=False) as counter,
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        components.denoiser.module(*inputs)
    assert work.flops_per_row == counter.get_total_flops()
    assert sum(module.flops for module in modules) == work.flops_per_row
    weights = components.denoiser.module.parameters()
    assert work.parameters == sum(weight.numel() for weight in weights)


def test_a_decoders_count_agrees_with_torchs_on_data(components: Components) -> None:
    with (
        FlopCounterMode(display=False) as counter,
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        components.vae.decode(torch.randn(1, 4, 16, 16))
    assert decoding_flops(components.vae, components.latent_shape) == counter.get_total_flops()


def test_layers_agree_with_closed_forms(components: Components, taps: tuple[Tap, ...]) -> None:
    work, modules = work_of(components.denoiser, taps, WORDS)
    own = {module.module: module for module in modules}
    tokens, channels, width = 16 * 16, 32, 64
    # A convolution: two operations per weight and output pixel; here 4 -> 32 channels, 3 x 3.
    assert own["conv_in"].flops == 2 * 4 * 32 * 9 * tokens
    assert own["conv_in"].bytes == 32 * tokens * 4
    layer = "down_blocks.0.attentions.0.transformer_blocks.0"
    inside = {
        name: sum(m.flops for m in modules if m.module.startswith(f"{layer}.{name}"))
        for name in ("attn1", "attn2")
    }
    products = 2 * 2 * tokens * tokens * channels
    assert inside["attn1"] == 4 * 2 * tokens * channels**2 + products
    assert inside["attn2"] == (
        2 * 2 * tokens * channels**2
        + 2 * 2 * WORDS * width * channels
        + 2 * 2 * tokens * WORDS * channels
    )
    assert own[f"{layer}.attn1"].flops == products
    assert work.taps["down0.0"] == own[f"{layer}.attn1.to_out.0"].bytes == tokens * channels * 4


def test_stable_diffusion_has_the_size_and_work_that_are_known_of_it() -> None:
    with torch.device("meta"):
        unet = untrained()
    taps = FAMILY.taps(unet, "attention", (4, 64, 64))
    work, _ = work_of(FAMILY.wrapped(unet, (4, 64, 64)), taps, 77)
    assert work.parameters == 859_520_964
    assert work.flops_per_row == pytest.approx(803.3e9, rel=1e-4)
    # 23.1 MB in half precision.
    assert sum(work.taps.values()) / 2 == pytest.approx(23.1e6, rel=5e-3)


def test_every_module_has_a_place(components: Components, taps: tuple[Tap, ...]) -> None:
    assert place_of("up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_out.0") == (
        "up2",
        "attn1",
    )
    assert place_of("mid_block.attentions.0.proj_in") == ("mid", "attentions")
    assert place_of("down_blocks.0.downsamplers.0.conv") == ("down0", "downsamplers")
    assert place_of("time_embedding.linear_1") == ("time_embedding", "")
    assert block_of("conv_in") == part_of("(fused)") == "rest"
    layers = [tap.layer for tap in taps]

    def by_tap(module: str) -> str:
        return tapped_layer(module, layers)

    for tap in taps:
        assert tapped_layer(tap.path, layers) == tap.layer
    assert not tapped_layer("up_blocks.2.attentions.1.transformer_blocks.0.attn2.to_out.0", layers)
    work, modules = work_of(components.denoiser, taps, WORDS)
    for key in (part_of, block_of, by_tap):
        assert sum(flops for flops, _ in work_by(modules, key).values()) == work.flops_per_row
    by_layer = work_by(modules, by_tap)
    # The output of a self-attention is as large as its tap.
    assert {layer: by_layer[layer][1] for layer in work.taps} == work.taps


def test_modules_of_deep_transformers_belong_to_the_tap_of_their_block(
    small_models: dict[str, Path],
) -> None:
    taps = load(small_models["sdxl"]).taps()
    layers = [tap.layer for tap in taps]
    assert "mid.0.2" in layers
    for tap in taps:
        assert (
            tapped_layer(tap.path, layers)
            == tapped_layer(tap.path.removesuffix(".to_out.0"), layers)
            == tap.layer
        )
