"""The names of activations that can be recorded: self-attentions and convolutions of a UNet.

A layer is named after its position: ``down0.1`` is the second attention of the first down block,
``mid.0`` the one in the middle. Taps bind these names to module paths. They are listed in the order
of computation (down, mid, up), which is not the order of ``named_modules`` (down, up, mid).
"""

from __future__ import annotations

import re

from diffusers.models.attention_processor import Attention
from torch import nn

from engines.engine import ATTENTION, CONVOLUTION, Tap, tap_of_convolution
from engines.errors import EngineError

_BLOCK = r"(?:(down|up)_blocks\.(\d+)|(mid)_block)"
_ATTENTION_BLOCK = re.compile(
    rf"{_BLOCK}\.attentions\.(\d+)(?:\.transformer_blocks\.(\d+))?(?:\.attn\d+)?"
)
_RESIDUAL_BLOCK = re.compile(rf"{_BLOCK}\.resnets\.(\d+)\.conv2")
_ORDER = ("down", "mid", "up")

_Position = tuple[int, int, int, int]
"""(index into _ORDER, block, layer in the block, depth in a transformer)."""


def taps_of(unet: nn.Module, kind: str) -> tuple[Tap, ...]:
    """The taps of a kind. Raises EngineError for a kind that a UNet does not have."""
    kinds = {ATTENTION: self_attention_taps, CONVOLUTION: convolution_taps}
    if kind not in kinds:
        raise EngineError(f"a UNet has no taps of {kind}; it has {' and '.join(kinds)}")
    return kinds[kind](unet)


def self_attention_taps(unet: nn.Module) -> tuple[Tap, ...]:
    """A tap on the output projection of every self-attention, in the order of computation.

    An attention is one to itself if it takes its keys from its own input, whatever it is called:
    with ``only_cross_attention`` the first attention of a block reads the text. The attention
    module itself is not tapped: it ends in a division by one, which optimizers remove. Raises
    EngineError when the UNet has no self-attention.
    """
    found = [
        (position, f"{path}.to_out.0", module)
        for position, path in _matches(unet, _ATTENTION_BLOCK)
        if isinstance(module := unet.get_submodule(path), Attention)
    ]
    paths = [(position, path) for position, path, module in found if _reads_itself(module)]
    if not paths:
        raise EngineError(
            "the UNet has no self-attention layer to tap: "
            + ("its attention reads the text alone" if found else "it has no attention blocks")
            + "; give a UNet2DConditionModel with self-attention"
        )
    deep = any(position[3] for position, _ in paths)
    return tuple(Tap(_name(position, deep), path) for position, path in paths)


def convolution_taps(unet: nn.Module) -> tuple[Tap, ...]:
    """A tap named ``conv.*`` on each residual block's last convolution, in computation order."""
    return tuple(
        Tap(tap_of_convolution(_name(position, False)), path)
        for position, path in _matches(unet, _RESIDUAL_BLOCK)
    )


def _reads_itself(attention: Attention) -> bool:
    """Whether an attention takes its keys from its own input alone."""
    return not attention.is_cross_attention and attention.added_kv_proj_dim is None


def _matches(unet: nn.Module, pattern: re.Pattern[str]) -> list[tuple[_Position, str]]:
    """Position and path of the modules whose path matches, in the order of computation."""
    positions = []
    for path, _ in unet.named_modules():
        if match := pattern.fullmatch(path):
            side, block, middle, layer, *depth = match.groups()
            position = _ORDER.index(side or middle), int(block or 0), int(layer)
            positions.append(((*position, int(next(iter(depth), None) or 0)), path))
    return sorted(positions)


def _name(position: _Position, deep: bool) -> str:
    side, block, layer, depth = position
    name = f"{_ORDER[side]}{block if _ORDER[side] != 'mid' else ''}.{layer}"
    return f"{name}.{depth}" if deep else name
