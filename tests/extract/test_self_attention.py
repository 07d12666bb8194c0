"""What counts as self-attention, against what every attention is given in a forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from engines.backends.torch_eager import BACKEND
from engines.conditioning import Conditioning
from engines.errors import EngineError
from engines.families.unet import FAMILY
from engines.families.unet.taps import self_attention_taps

SMALL: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
}


def attentions_to_themselves(unet: UNet2DConditionModel) -> list[str]:
    """Paths of the attentions whose keys are as wide and as many as what they are given to read.

    The text has another width and another number of words than every activation.
    """
    found: list[str] = []

    def hook(path: str, module: Attention) -> Any:
        keys: list[int] = []
        module.to_k.register_forward_pre_hook(lambda _, args: keys.append(args[0].shape[1]))

        def after(_: Attention, args: tuple[torch.Tensor, ...], __: object) -> None:
            tokens = args[0].flatten(2).shape[-1] if args[0].ndim == 4 else args[0].shape[1]
            if keys.pop() == tokens:
                found.append(f"{path}.to_out.0")

        return after

    for path, module in unet.named_modules():
        if isinstance(module, Attention):
            module.register_forward_hook(hook(path, module))
    with torch.inference_mode():
        unet(torch.zeros(1, 4, 8, 8), torch.tensor(3.0), torch.zeros(1, 5, 12))
    return found


def drawn(changes: dict[str, Any]) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**SMALL | changes).eval()


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, ()),
        ({"only_cross_attention": (True, False)}, ("down0.0", "up1.0", "up1.1")),
        ({"only_cross_attention": (False, True)}, ("down1.0", "up0.0", "up0.1")),
        ({"only_cross_attention": True}, ("down0.0", "down1.0", "up0.0", "up0.1", "up1.0")),
        (
            {"only_cross_attention": (True, False), "transformer_layers_per_block": 2},
            ("down0.0.1",),
        ),
        ({"mid_block_only_cross_attention": True, "only_cross_attention": True}, ("up1.0",)),
        ({"down_block_types": ("CrossAttnDownBlock2D", "AttnDownBlock2D")}, ()),
        ({"up_block_types": ("AttnUpBlock2D", "CrossAttnUpBlock2D")}, ()),
    ],
)
def test_self_attention_is_what_reads_its_own_input(
    changes: dict[str, Any], missing: tuple[str, ...]
) -> None:
    taps = self_attention_taps(drawn(changes))
    assert [tap.path for tap in taps] == attentions_to_themselves(drawn(changes))
    layers = [tap.layer for tap in taps]
    assert len(set(layers)) == len(layers)
    assert not set(missing) & set(layers)


@pytest.mark.parametrize(
    "changes",
    [
        {"only_cross_attention": (True, False)},
        {"down_block_types": ("CrossAttnDownBlock2D", "AttnDownBlock2D")},
        {"up_block_types": ("AttnUpBlock2D", "CrossAttnUpBlock2D")},
    ],
)
def test_taps_of_such_networks_are_recorded(changes: dict[str, Any], cache: Any) -> None:
    unet = drawn(changes)
    taps = self_attention_taps(unet)
    engine = BACKEND.open(FAMILY.wrapped(unet, (4, 8, 8)), taps, cache, 1)
    words = Conditioning({"text": torch.zeros(1, 5, 12)})
    recorded = engine(torch.zeros(1, 4, 8, 8), 3.0, words).taps
    assert list(recorded) == [tap.layer for tap in taps]


def test_a_network_that_attends_to_the_text_alone_is_refused_by_that_name() -> None:
    unet = drawn({"only_cross_attention": True, "mid_block_type": None})
    with pytest.raises(EngineError, match="its attention reads the text alone"):
        self_attention_taps(unet)
