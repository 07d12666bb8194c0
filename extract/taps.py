"""Choose layers to record by name.

A layer is named after its position: ``down0.1`` is the second attention of the first down block of
a UNet, ``block3`` the fourth block of a transformer. Other kinds of activations than attention's
outputs come first in the name: ``residual.block3``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engines.engine import ATTENTION, KINDS, Tap
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


def kind_and_place(layer: str) -> tuple[str, str]:
    """Split a layer's name into the kind of activation and the place in the network."""
    first, _, rest = layer.partition(".")
    return (first, rest) if first in KINDS else (ATTENTION, layer)


def layers_by_kind(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Group layers by kind of activation; within a kind they are in the order of computation."""
    kinds: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        kind, _ = kind_and_place(layer)
        kinds[kind] = (*kinds.get(kind, ()), layer)
    return kinds


def layers_by_block(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Group layers by kind of activation and block, in their order."""
    blocks: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        kind, place = kind_and_place(layer)
        block = place.partition(".")[0]
        name = block if kind == ATTENTION else f"{kind}.{block}"
        blocks[name] = (*blocks.get(name, ()), layer)
    return blocks


def depth_of(layers: Sequence[str], layer: str) -> float:
    """The relative position of a layer in the order of computation, from 0 to 1.

    It is that among the layers of its kind, as several kinds are recorded in every block.
    """
    own = layers_by_kind(layers)[kind_and_place(layer)[0]]
    return own.index(layer) / (len(own) - 1) if len(own) > 1 else 0.5


def decoding_layers(layers: Sequence[str]) -> tuple[str, ...]:
    """The layers that turn to the output: a network's decoder, or the later half of its layers.

    Where several kinds of activations are recorded, the later half of each kind.
    """
    if any(fits(layer, side) for layer in layers for side in _SIDES):
        return tuple(layer for layer in layers if fits(layer, "up"))
    later = {name for own in layers_by_kind(layers).values() for name in own[len(own) // 2 :]}
    return tuple(layer for layer in layers if layer in later)


def fits(layer: str, name: str) -> bool:
    """Whether ``name`` is that of the layer or of blocks that contain it: up, up2 and up2.1."""
    inside = r"\d*(?:\..*)?" if name[-1:].isalpha() else r"(?:\..*)?"
    return re.fullmatch(re.escape(name) + inside, layer) is not None
