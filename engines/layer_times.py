"""Seconds per module of the denoiser in one engine call, from the engine's own profiler."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from engines.conditioning import Conditioning

FUSED = "(fused)"
"""Stands for the module of a node whose name the engine's optimizer lost."""


@dataclass(frozen=True, slots=True)
class LayerTime:
    """Time spent in one module itself, without its children."""

    module: str
    """Path inside the denoiser, such as ``down_blocks.0.attentions.0``; empty for its own
    operations, ``(fused)`` if the engine does not name one."""
    kind: str
    """The engine's name of the operation, such as ``Linear``, ``MatMul`` or ``Convolution``."""
    seconds: float
    """Per call."""


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """The times of one engine, as means over calls."""

    entries: tuple[LayerTime, ...]
    """Self times, which add up, in the order of first execution."""
    total_seconds: float
    """Wall time of one whole call under the profiler."""

    @property
    def coverage(self) -> float:
        """Share of the call that the entries cover; it can exceed 1 with parallel branches."""
        return sum(entry.seconds for entry in self.entries) / self.total_seconds


@runtime_checkable
class Profiled(Protocol):
    """An engine with layer times."""

    def layer_times(
        self,
        latents: Float[Tensor, "n c h w"],
        timestep: float,
        conditioning: Conditioning,
        calls: int,
    ) -> LayerTimes:
        """Profile ``calls`` calls, after one that is not counted."""
        ...


_SCOPE = re.compile(r"\bdenoiser((?:\.\w+)*)/")


def module_of(name: str) -> str:
    """The module path that the export put before a node's name, whatever an optimizer added to it.

    A name that joins nodes of several modules belongs to the first; ``(fused)`` if there is none.
    """
    match = _SCOPE.search(name)
    return match[1].lstrip(".") if match else FUSED


def merged(entries: Iterable[LayerTime], calls: int) -> tuple[LayerTime, ...]:
    """Mean over ``calls`` calls per module and kind, in the order of first appearance."""
    sums: dict[tuple[str, str], float] = {}
    for entry in entries:
        key = (entry.module, entry.kind)
        sums[key] = sums.get(key, 0.0) + entry.seconds
    return tuple(
        LayerTime(module, kind, seconds / calls)
        for (module, kind), seconds in sums.items()
        if seconds
    )
