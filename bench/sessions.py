"""What a run took, when it is the work of several processes: after a crash, beside other ranks, or merged from parts.

Every shard says which process made it, in how many seconds, and how much memory that process had needed by then.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.measure import peak_bytes

MADE = "made"
"""In a shard: the process, its seconds for the shard, and its peak of resident bytes."""
_IDENTITIES = 1 << 53
"""Whole numbers that fp64 tells apart."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run took in all."""

    seconds: float
    """Of all processes, added up; the last one's from beginning to end."""
    peak_bytes: int
    """Resident memory of the process that needed most."""
    processes: int


@dataclass(frozen=True, slots=True)
class Session:
    """One process at work on a run, from its beginning."""

    identity: int = field(default_factory=lambda: secrets.randbelow(_IDENTITIES))
    started: float = field(default_factory=time.perf_counter)

    def stamp(self, seconds: float) -> dict[str, Tensor]:
        """What a shard says of this process, which made it in so many seconds."""
        return {MADE: torch.tensor([self.identity, seconds, peak_bytes()], dtype=torch.float64)}

    def taken(self, shards: Iterable[Mapping[str, Tensor]]) -> Taken:
        """The work of this process up to now and of all others that made the shards."""
        stamps = [shard[MADE].tolist() for shard in shards]
        others = [stamp for stamp in stamps if stamp[0] != self.identity]
        return Taken(
            time.perf_counter() - self.started + sum(seconds for _, seconds, _ in others),
            max([peak_bytes(), *(int(peak) for _, _, peak in others)]),
            1 + len({identity for identity, _, _ in others}),
        )
