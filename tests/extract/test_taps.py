"""Taps: names, module paths, and the order of computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from engines.components import Components
from engines.engine import Tap, layer_of_convolution, tap_of_convolution
from engines.errors import EngineError
from engines.families.unet.taps import convolution_taps, self_attention_taps
from extract.taps import choose, decoding_layers, depth_of, fits, layers_by_block

PROJECTION = "attn1.to_out.0"
SD_V1 = [
    *(f"down_blocks.{block}.attentions.{at}" for block in (0, 1, 2) for at in (0, 1)),
    "mid_block.attentions.0",
    *(f"up_blocks.{block}.attentions.{at}" for block in (1, 2, 3) for at in (0, 1, 2)),
]
LAYERS = [
    *("down0.0", "down0.1", "down1.0", "down1.1", "down2.0", "down2.1"),
    "mid.0",
    *("up1.0", "up1.1", "up1.2", "up2.0", "up2.1", "up2.2", "up3.0", "up3.1", "up3.2"),
]
SMALL: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "norm_num_groups": 4,
}


def paths_in_order(unet: UNet2DConditionModel, end: str = PROJECTION) -> list[str]:
    """Module paths that end with ``end``, in the order in which a forward pass computes them."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, path=path: order.append(path))
        for path, module in unet.named_modules()
        if path.endswith(end)
    ]
    side, width = int(unet.config.sample_size), int(unet.config.cross_attention_dim)
    with torch.inference_mode():
        unet(torch.zeros(1, 4, side, side), torch.tensor(3.0), torch.zeros(1, 2, width))
    for handle in handles:
        handle.remove()
    return order


def test_the_sixteen_taps_have_the_paths_of_stable_diffusion_v1(taps: tuple[Tap, ...]) -> None:
    assert [tap.path for tap in taps] == [
        f"{site}.transformer_blocks.0.{PROJECTION}" for site in SD_V1
    ]
    assert [tap.layer for tap in taps] == LAYERS


def test_stable_diffusion_v1_itself_has_the_same_taps(taps: tuple[Tap, ...]) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    assert self_attention_taps(unet) == taps
    channels = [unet.get_submodule(tap.path).out_features for tap in taps]
    assert channels == [320] * 2 + [640] * 2 + [1280] * 6 + [640] * 3 + [320] * 3


def test_taps_are_listed_in_the_order_of_computation(
    components: Components, taps: tuple[Tap, ...]
) -> None:
    assert paths_in_order(components.denoiser.module) == [tap.path for tap in taps]


@pytest.mark.parametrize(
    "changes",
    [
        {"transformer_layers_per_block": 2},
        {"layers_per_block": 3},
        {
            "down_block_types": ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2,
        },
        {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2},
    ],
)
def test_taps_of_other_networks_are_complete_unique_and_in_order(changes: dict[str, Any]) -> None:
    unet = UNet2DConditionModel(**SMALL | changes)
    actual = self_attention_taps(unet)
    assert [tap.path for tap in actual] == paths_in_order(unet)
    assert len({tap.layer for tap in actual}) == len(actual)


def test_transformers_of_two_blocks_are_distinguished_by_a_third_number() -> None:
    unet = UNet2DConditionModel(**SMALL | {"transformer_layers_per_block": 2})
    assert [tap.layer for tap in self_attention_taps(unet)] == [
        *("down0.0.0", "down0.0.1", "mid.0.0", "mid.0.1"),
        *("up1.0.0", "up1.0.1", "up1.1.0", "up1.1.1"),
    ]


def test_a_network_without_self_attention_is_refused() -> None:
    plain = SMALL | {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    with pytest.raises(EngineError, match="no self-attention layer"):
        self_attention_taps(UNet2DConditionModel(**plain, mid_block_type=None))


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        ([], LAYERS),
        (["up2.1"], ["up2.1"]),
        (["up2"], ["up2.0", "up2.1", "up2.2"]),
        (["mid"], ["mid.0"]),
        (["up3.0", "mid", "down0.1"], ["down0.1", "mid.0", "up3.0"]),
        (["up2", "up2.1", "up2"], ["up2.0", "up2.1", "up2.2"]),
        (["down"], LAYERS[:6]),
        (["up"], LAYERS[7:]),
    ],
)
def test_taps_are_chosen_by_layer_or_block_in_the_order_of_computation(
    taps: tuple[Tap, ...], names: list[str], layers: list[str]
) -> None:
    assert [tap.layer for tap in choose(taps, names)] == layers


def test_a_block_is_named_whole() -> None:
    taps = [
        Tap("up1.0", "a"),
        Tap("up10.0", "b"),
        Tap("up10.1", "c"),
        Tap("up10.1.1", "d"),
        Tap("up10.10", "e"),
    ]
    assert [tap.path for tap in choose(taps, ["up1"])] == ["a"]
    assert [tap.path for tap in choose(taps, ["up10.1"])] == ["c", "d"]


@pytest.mark.parametrize(
    "name", ["up4", "up0", "down3", "up2.3", "up2.", "u", "mid.1", "middle", "", "attn1", "UP2"]
)
def test_an_unknown_layer_is_refused_with_the_names_of_all_layers(
    taps: tuple[Tap, ...], name: str
) -> None:
    with pytest.raises(EngineError) as caught:
        choose(taps, ["mid", name])
    message = str(caught.value)
    assert repr(name) in message
    assert all(layer in message for layer in LAYERS)


def test_every_residual_block_is_tapped_at_its_last_convolution_in_the_order_of_computation(
    components: Components,
) -> None:
    for unet in (
        components.denoiser.module,
        UNet2DConditionModel(**SMALL),
        UNet2DConditionModel(**SMALL | {"layers_per_block": 3}),
    ):
        actual = convolution_taps(unet)
        assert [tap.path for tap in actual] == paths_in_order(unet, ".conv2")
        assert len({tap.layer for tap in actual}) == len(actual)


def test_convolutions_are_named_after_their_block_and_index(components: Components) -> None:
    named = {tap.layer: tap.path for tap in convolution_taps(components.denoiser.module)}
    down, up = (
        [f"down{i}.{j}" for i in range(4) for j in range(2)],
        [f"up{i}.{j}" for i in range(4) for j in range(3)],
    )
    assert list(named) == [f"conv.{layer}" for layer in (*down, "mid.0", "mid.1", *up)]
    assert named["conv.down3.1"] == "down_blocks.3.resnets.1.conv2"
    assert named["conv.mid.1"] == "mid_block.resnets.1.conv2"
    assert named["conv.up0.2"] == "up_blocks.0.resnets.2.conv2"


def test_names_of_convolutions_and_attentions_differ(
    components: Components, taps: tuple[Tap, ...]
) -> None:
    convolutions = convolution_taps(components.denoiser.module)
    assert not {tap.layer for tap in taps} & {tap.layer for tap in convolutions}
    for tap in convolutions:
        assert tap_of_convolution(layer_of_convolution(tap)) == tap.layer
        assert layer_of_convolution(tap) == tap.layer[len("conv.") :]
    assert set(LAYERS) < {layer_of_convolution(tap) for tap in convolutions}


@pytest.mark.parametrize(
    ("layer", "name", "is_in"),
    [
        ("up2.1", "up2.1", True),
        ("up2.1", "up2", True),
        ("up2.1", "up", True),
        ("up2.10", "up2.1", False),
        ("up10.1", "up1", False),
        ("up1.0", "down", False),
        ("mid.0", "mid", True),
        ("down0.0.1", "down0.0", True),
        ("up2.1", "", False),
        ("up2.1", "u", False),
    ],
)
def test_a_layer_fits_its_name_and_the_blocks_it_lies_in(
    layer: str, name: str, is_in: bool
) -> None:
    assert fits(layer, name) is is_in


def test_the_later_half_of_a_transformer_is_that_of_every_kind() -> None:
    """Kinds are recorded one after the other, so the later half of the list is one kind."""
    blocks = tuple(f"block{number}" for number in range(4))
    layers = (*blocks, *(f"residual.{block}" for block in blocks))
    assert decoding_layers(layers) == ("block2", "block3", "residual.block2", "residual.block3")
    assert [depth_of(layers, layer) for layer in layers] == [0, 1 / 3, 2 / 3, 1] * 2
    assert layers_by_block(layers) == {layer: (layer,) for layer in layers}


def test_layers_of_a_unet_lie_in_blocks() -> None:
    assert list(layers_by_block(LAYERS)) == ["down0", "down1", "down2", "mid", "up1", "up2", "up3"]
    assert decoding_layers(LAYERS) == tuple(name for name in LAYERS if name.startswith("up"))
    assert depth_of(LAYERS, "down0.0") == 0
    assert depth_of(LAYERS, "up3.2") == 1
