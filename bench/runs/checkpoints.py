"""Shards of a run: made by whose turn it is, kept, and read back.

Every shard says which process made it, in how many seconds, and how much memory that process had needed by then: so
what a run took is known after a crash, beside other ranks, and when it is merged from parts.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from bench.measure import peak_bytes
from bench.runs.workers import Workers
from extract.shards import Shards

COSTS = "costs"
"""In a shard of generated images: its engine calls' clock readings."""


MADE = "made"
"""In a shard: the process, its seconds for the shard, and its peak of resident bytes."""

_IDENTITIES = 1 << 53
"""Whole numbers that fp64 tells apart."""


@dataclass(frozen=True, slots=True)
class RunCost:
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

    def taken(self, shards: Iterable[Mapping[str, Tensor]]) -> RunCost:
        """The work of this process up to now and of all others that made the shards."""
        stamps = [shard[MADE].tolist() for shard in shards]
        others = [stamp for stamp in stamps if stamp[0] != self.identity]
        return RunCost(
            time.perf_counter() - self.started + sum(seconds for _, seconds, _ in others),
            max([peak_bytes(), *(int(peak) for _, _, peak in others)]),
            1 + len({identity for identity, _, _ in others}),
        )


@dataclass(frozen=True, slots=True)
class Work:
    """A shard, and how it is made."""

    name: str
    make: Callable[[], Mapping[str, Tensor]]
    items: int = 0
    """How many are generated for it."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Makes one run's shards, beside other ranks. They go to disk at once, so that memory does not grow with items."""

    workers: Workers
    shards: Shards
    progress: tqdm[None]
    session: Session = field(default_factory=Session)
    names: list[str] = field(default_factory=list)
    """Of all shards up to now, whoever made them, in the order of work."""

    def make(self, stage: str, works: Sequence[Work]) -> None:
        """Make this rank's shards of a stage, as far as they are not there whole, and see that all others are."""
        for index, work in enumerate(works):
            if self.workers.mine(index) and not self.is_whole(work.name):
                started = time.perf_counter()
                tensors = dict(work.make())
                self.shards.write(
                    work.name, tensors | self.session.stamp(time.perf_counter() - started)
                )
                # Not beside what the next shard needs.
                del tensors
            else:
                self.progress.update(work.items)
        self.workers.barrier()
        missing = [work.name for work in works if not self.shards.done(work.name)]
        if missing:
            self.workers.missing(stage, missing, len(works))
        self.names.extend(work.name for work in works)

    def shared(self, stage: str, works: Sequence[Work]) -> list[Mapping[str, Tensor]]:
        """What is in all shards of a stage that needs no engine; who waits for nobody makes all, and stores none."""
        if not self.workers.waits:
            return [work.make() for work in works]
        self.make(stage, works)
        return [self.shards.read(work.name) for work in works]

    def is_whole(self, name: str) -> bool:
        """Whether a shard is there and undamaged; the user hears of one that has to be made again."""
        if not self.shards.done(name):
            return False
        damage = self.shards.damage(name)
        if damage:
            self.progress.write(f"bench: {damage}", file=sys.stderr)
        return damage is None

    def taken(self) -> tuple[list[Tensor], RunCost]:
        """What every shard's calls took, in the order of work, and what the run took in all."""
        found = [self.shards.read(name, lambda key: key in (COSTS, MADE)) for name in self.names]
        return [shard[COSTS] for shard in found if COSTS in shard], self.session.taken(found)
