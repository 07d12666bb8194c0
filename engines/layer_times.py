"""Where a call's time goes: seconds per module of the UNet, as an engine's own profiler gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

FUSED = "(fused)"
"""The module of work whose name the engine's optimizer lost."""


@dataclass(frozen=True, slots=True)
class LayerTime:
    """Time spent in one module itself, without its children."""

    module: str
    """Path inside the UNet, such as ``down_blocks.0.attentions.0.transformer_blocks.0.attn1``; empty for the UNet's
    own operations, ``(fused)`` where the engine does not tell."""
    kind: str
    """What was done there, in the engine's words, such as ``Linear``, ``MatMul`` or ``Convolution``."""
    seconds: float
    """Per call."""


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """The times of one engine, as means over calls."""

    entries: tuple[LayerTime, ...]
    """Self times, so that they add up; in the order of first execution."""
    total_seconds: float
    """One whole call under the profiler, by the clock on the wall."""

    @property
    def coverage(self) -> float:
        """The share of the call that the entries account for; with parallel branches it can exceed 1."""
        return sum(entry.seconds for entry in self.entries) / self.total_seconds


@runtime_checkable
class Profiled(Protocol):
    """An engine that can tell where its time goes."""

    def layer_times(
        self,
        latents: Float[Tensor, "n c h w"],
        timestep: float,
        text: Float[Tensor, "n words width"],
        calls: int,
    ) -> LayerTimes:
        """Run ``calls`` calls under the engine's profiler, after one that is not counted."""
        ...


_SCOPE = re.compile(r"\bunet((?:\.\w+)*)/")


def module_of(name: str) -> str:
    """The module path that the export put before a node's name, however an optimizer has decorated it.

    A name that joins nodes of several modules belongs to the first; ``(fused)`` when there is none.
    """
    found = _SCOPE.search(name)
    return found[1].lstrip(".") if found else FUSED


def merged(entries: Iterable[LayerTime], calls: int) -> tuple[LayerTime, ...]:
    """Per module and kind the mean over ``calls`` calls of the given times, in the order of first appearance."""
    sums: dict[tuple[str, str], float] = {}
    for entry in entries:
        key = (entry.module, entry.kind)
        sums[key] = sums.get(key, 0.0) + entry.seconds
    return tuple(
        LayerTime(module, kind, seconds / calls)
        for (module, kind), seconds in sums.items()
        if seconds
    )
