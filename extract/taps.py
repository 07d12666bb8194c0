"""Which activations are read, by name: the self-attention outputs of a UNet, found from its modules.

A layer is named after where it sits: ``down0.1`` is the second attention of the first down block, ``mid.0`` the one in
the middle. Names are bound to module paths and listed in the order of computation (down, mid, up), which is not the
order of ``named_modules`` (down, up, mid).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines.engine import Tap
from engines.errors import EngineError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

_SELF_ATTENTION = re.compile(
    r"(?:(down|up)_blocks\.(\d+)|(mid)_block)\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.attn1\.to_out\.0"
)
_CONVOLUTION = re.compile(r"(?:(down|up)_blocks\.(\d+)|(mid)_block)\.resnets\.(\d+)\.conv2")
_ORDER = ("down", "mid", "up")
_PREFIX = "conv."


def self_attention_taps(unet: UNet2DConditionModel) -> tuple[Tap, ...]:
    """A tap on the output projection of every self-attention, in the order of computation.

    The projection, not the attention module: that one ends in a division by one, which optimizers remove.
    Raises EngineError when the UNet has none.
    """
    found = []
    for path, _ in unet.named_modules():
        match = _SELF_ATTENTION.fullmatch(path)
        if match:
            side, block, middle, attention, depth = match.groups()
            found.append(
                ((_ORDER.index(side or middle), int(block or 0), int(attention), int(depth)), path)
            )
    if not found:
        raise EngineError(
            "the UNet has no self-attention layer to tap; give a UNet2DConditionModel with attention blocks"
        )
    deep = any(site[3] for site, _ in found)
    return tuple(Tap(_name(site, deep), path) for site, path in sorted(found))


def convolution_taps(unet: UNet2DConditionModel) -> tuple[Tap, ...]:
    """A tap on the last convolution of every residual block, in order of computation; names start with ``conv.``."""
    found = []
    for path, _ in unet.named_modules():
        match = _CONVOLUTION.fullmatch(path)
        if match:
            side, block, middle, resnet = match.groups()
            found.append(((_ORDER.index(side or middle), int(block or 0), int(resnet), 0), path))
    return tuple(Tap(tap_of_convolution(_name(site, False)), path) for site, path in sorted(found))


def tap_of_convolution(layer: str) -> str:
    """The tap's name of a layer of residual blocks: attention and convolution have layers of the same name."""
    return _PREFIX + layer


def layer_of_convolution(tap: Tap) -> str:
    """Undo :func:`tap_of_convolution`."""
    return tap.layer.removeprefix(_PREFIX)


def _name(site: tuple[int, int, int, int], deep: bool) -> str:
    side, block, attention, depth = site
    name = f"{_ORDER[side]}{block if _ORDER[side] != 'mid' else ''}.{attention}"
    return f"{name}.{depth}" if deep else name


def choose(taps: Sequence[Tap], names: Sequence[str]) -> tuple[Tap, ...]:
    """The taps whose layer is named, or lies in a named block (``up2`` stands for all of its layers); all if none is.

    Raises EngineError, with the known names, for a name that fits no layer.
    """
    if not names:
        return tuple(taps)
    for name in names:
        if not any(fits(tap.layer, name) for tap in taps):
            raise EngineError(
                f"this model has no layer {name!r}; it has {', '.join(tap.layer for tap in taps)}"
            )
    return tuple(tap for tap in taps if any(fits(tap.layer, name) for name in names))


def fits(layer: str, name: str) -> bool:
    """Whether a layer is the named one or lies in the named block."""
    return layer == name or layer.startswith((f"{name}.", name) if name in _ORDER else f"{name}.")
