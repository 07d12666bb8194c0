"""Choose layers to record by name.

A layer is named after its position: ``down0.1`` is the second attention of the first down block of
a UNet, ``block3`` the fourth block of a transformer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engines.engine import Tap
from engines.errors import EngineError


def choose(taps: Sequence[Tap], names: Sequence[str]) -> tuple[Tap, ...]:
    """Select taps by the names of layers or blocks (``up2`` stands for all of its layers).

    Returns all taps if ``names`` is empty. Raises EngineError for a name that fits no layer.
    """
    if not names:
        return tuple(taps)
    for name in names:
        if not any(fits(tap.layer, name) for tap in taps):
            raise EngineError(
                f"this model has no layer {name!r}; it has {', '.join(tap.layer for tap in taps)}"
            )
    return tuple(tap for tap in taps if any(fits(tap.layer, name) for name in names))


_SIDES = ("down", "mid", "up")
"""Blocks of a network with an encoder, a middle and a decoder."""


def decoding_layers(layers: Sequence[str]) -> tuple[str, ...]:
    """The layers that turn to the output: a network's decoder, or the later half of its layers."""
    if any(fits(layer, side) for layer in layers for side in _SIDES):
        return tuple(layer for layer in layers if fits(layer, "up"))
    return tuple(layers[len(layers) // 2 :])


def fits(layer: str, name: str) -> bool:
    """Whether ``name`` is that of the layer or of blocks that contain it: up, up2 and up2.1."""
    inside = r"\d*(?:\..*)?" if name[-1:].isalpha() else r"(?:\..*)?"
    return re.fullmatch(re.escape(name) + inside, layer) is not None
