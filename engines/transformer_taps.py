"""Taps of transformers: the same places in every block of a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engines.engine import (
    ATTENTION,
    FEED_FORWARD,
    GATED,
    KEY,
    QUERY,
    RESIDUAL,
    TEXT_STREAM,
    VALUE,
    Tap,
)
from engines.errors import EngineError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kind of activation lies in a block."""

    path: str = ""
    """Path of a module inside the block; empty for the block itself."""
    element: int = 0
    """Index of the tensor where the module gives several."""
    port: Literal["output", "input"] = "output"
    """Whether the module's output is recorded, or the first input of its call."""
    minus: str | None = None
    """Path of a module inside the block whose first input is subtracted."""
    text: bool = False
    """Whether it is recorded as a mean over the tokens of the text."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A list of equal blocks."""

    path: str
    """Path of the list in the denoiser."""
    layer: str
    """Name of a layer without its number, such as ``block``."""
    places: Mapping[str, Place]
    """Kind of activation -> its place."""
    text_first: bool = False
    """Whether the sequence holds the text's tokens before the image's."""


JOINT_BLOCK: Mapping[str, Place] = {
    ATTENTION: Place("attn.to_out.0"),
    RESIDUAL: Place(element=1),
    FEED_FORWARD: Place("ff"),
    QUERY: Place("attn.to_q"),
    KEY: Place("attn.to_k"),
    VALUE: Place("attn.to_v"),
    GATED: Place("norm2", port="input", minus="norm1"),
    TEXT_STREAM: Place("attn.to_add_out", text=True),
}
"""A block whose attention joins image and text tokens, which it returns apart, text first."""

CROSS_BLOCK: Mapping[str, Place] = {
    ATTENTION: Place("attn1.to_out.0"),
    RESIDUAL: Place(),
    FEED_FORWARD: Place("ff"),
    QUERY: Place("attn1.to_q"),
    KEY: Place("attn1.to_k"),
    VALUE: Place("attn1.to_v"),
    GATED: Place("attn2.to_q", port="input", minus="norm1"),
}
"""A block of image tokens with self-attention and then cross-attention to the text."""


def stack_taps(
    module: nn.Module, stacks: Sequence[Stack], kind: str, tokens: int
) -> tuple[Tap, ...]:
    """The taps of a kind in every block that has its place, in the order of computation.

    ``tokens`` is the number of the image's tokens. Raises EngineError if no block has the place.
    """
    taps: list[Tap] = []
    for stack in stacks:
        place = stack.places.get(kind)
        if place is None:
            continue
        blocks: Any = module.get_submodule(stack.path)
        for number, block in enumerate(blocks):
            if getattr(block, "context_pre_only", False) and place.text:
                # The last block drops the text.
                continue
            if not _has(block, place.path):
                continue
            base = f"{stack.path}.{number}"
            layer = f"{stack.layer}{number}"
            taps.append(
                Tap(
                    layer=layer if kind == ATTENTION else f"{kind}.{layer}",
                    path=".".join(filter(None, (base, place.path))),
                    port=place.port,
                    element=place.element,
                    last=tokens if stack.text_first else None,
                    text=place.text,
                    minus=None if place.minus is None else f"{base}.{place.minus}",
                )
            )
    if not taps:
        has = dict.fromkeys(kind for stack in stacks for kind in stack.places)
        raise EngineError(f"this denoiser has no taps of {kind}; it has {', '.join(has)}")
    return tuple(taps)


def kinds_of(stacks: Sequence[Stack]) -> tuple[str, ...]:
    """The kinds of activations that the stacks have."""
    return tuple(dict.fromkeys(kind for stack in stacks for kind in stack.places))


def _has(block: nn.Module, path: str) -> bool:
    try:
        return block.get_submodule(path) is not None
    except AttributeError:
        return False
