from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.registry import plugin, plugins
from engines.components import Components
from engines.engine import Tap
from engines.layer_times import FUSED, LayerTime, Profiled, merged, module_of

SLOW = {"torch_compile"}


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("denoiser.down_blocks.0.resnets.1.conv1/node_conv2d_3", "down_blocks.0.resnets.1.conv1"),
        ("denoiser/node_Concat_3", ""),
        ("fused denoiser.mid_block.attentions.0/x + denoiser.conv_in/y", "mid_block.attentions.0"),
        ("/denoiser.conv_out/node_conv2d_97_kernel_time", "conv_out"),
        ("ReorderInput_kernel_time", FUSED),
        ("thedenoiser/x", FUSED),
    ],
)
def test_the_module_of_a_node_name(name: str, module: str) -> None:
    assert module_of(name) == module


def test_times_of_one_module_and_kind_are_added_and_divided_by_the_calls() -> None:
    entries = [
        LayerTime("a", "Conv", 1.0),
        LayerTime("b", "Conv", 2.0),
        LayerTime("a", "Conv", 5.0),
    ]
    assert merged(entries, 2) == (LayerTime("a", "Conv", 3.0), LayerTime("b", "Conv", 1.0))


@pytest.mark.parametrize("name", [name for name in plugins("engine") if name not in SLOW])
def test_an_engine_gives_its_layer_times_by_module(
    name: str, components: Components, taps: tuple[Tap, ...], cache: Path
) -> None:
    backend = plugin("engine", name)
    if backend.unavailable():
        pytest.skip(backend.unavailable())
    engine = backend.open(components.denoiser, taps, cache, 1)
    if not isinstance(engine, Profiled):
        pytest.skip(f"{name} has no layer times")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *components.latent_shape, generator=generator)
    times = engine.layer_times(latents, 500.0, components.embed(["a dog", "a cone"]), 3)
    # On a busy machine time passes between two nodes, so coverage can be far below 1.
    assert 0.5 <= times.coverage <= 1.05
    paths = {path for path, _ in components.denoiser.module.named_modules()}
    assert {entry.module for entry in times.entries} <= {*paths, FUSED}
    assert all(entry.seconds > 0 for entry in times.entries)
    fused = sum(entry.seconds for entry in times.entries if entry.module == FUSED)
    assert fused <= 0.3 * sum(entry.seconds for entry in times.entries)
    for block in ("down_blocks.0", "mid_block", "up_blocks.3"):
        assert any(entry.module.startswith(f"{block}.resnets.0.conv1") for entry in times.entries)
        attention = f"{block}.attentions.0.transformer_blocks.0.attn1"
        assert any(entry.module.startswith(attention) for entry in times.entries)
