"""The shards of a run: divided among processes, kept on disk, and read by the next stage.

Every shard stores which process made it, its seconds, and that process's peak memory so far. So
the cost of a run is known after a crash, with several ranks, and after a merge of parts.
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
from bench.runs.shard_keys import COSTS, MADE, Stage
from bench.runs.workers import Workers
from extract.shards import Shards

_IDENTITIES = 1 << 53
"""Whole numbers that fp64 can represent."""


@dataclass(frozen=True, slots=True)
class RunCost:
    """The cost of a run, over all its processes."""

    calls: tuple[Tensor, ...]
    """Clock readings of engine calls (calls x 5), one tensor per shard, in the order of work."""
    seconds: float
    """Summed over processes; the last process counts from its start to its end."""
    peak_bytes: int
    """Largest resident memory of a process."""
    processes: int


@dataclass(frozen=True, slots=True)
class Session:
    """One process that works on a run."""

    identity: int = field(default_factory=lambda: secrets.randbelow(_IDENTITIES))
    started: float = field(default_factory=time.perf_counter)

    def stamp(self, seconds: float) -> dict[str, Tensor]:
        """Return the entry of a shard that this process made in so many seconds."""
        return {MADE: torch.tensor([self.identity, seconds, peak_bytes()], dtype=torch.float64)}

    def cost(self, shards: Iterable[Mapping[str, Tensor]]) -> RunCost:
        """Add up the work of this process until now and of the others that made the shards."""
        parts = list(shards)
        stamps = [part[MADE].tolist() for part in parts]
        others = [stamp for stamp in stamps if stamp[0] != self.identity]
        return RunCost(
            tuple(part[COSTS] for part in parts if COSTS in part),
            time.perf_counter() - self.started + sum(seconds for _, seconds, _ in others),
            max([peak_bytes(), *(int(peak) for _, _, peak in others)]),
            1 + len({identity for identity, _, _ in others}),
        )


@dataclass(frozen=True, slots=True)
class Work:
    """A shard and the function that makes it."""

    name: str
    make: Callable[[], Mapping[str, Tensor]]
    items: int = 0
    """Items that it generates."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Makes the shards of one run and writes each to disk, so that memory does not grow."""

    workers: Workers
    shards: Shards
    progress: tqdm[None]
    session: Session = field(default_factory=Session)
    names: list[str] = field(default_factory=list)
    """All shards until now, whoever made them, in the order of work."""

    def make(self, stage: Stage, works: Sequence[Work]) -> None:
        """Make this rank's missing shards of a stage, and wait for those of the others.

        Raises IncompleteError when others have shards left to make.
        """
        for index, work in enumerate(works):
            if self.workers.makes(index) and not self.is_whole(work.name):
                started = time.perf_counter()
                tensors = dict(work.make())
                stamp = self.session.stamp(time.perf_counter() - started)
                self.shards.write(work.name, tensors | stamp)
                # Frees memory before the next shard is made.
                del tensors
            else:
                self.progress.update(work.items)
        self.workers.barrier()
        missing = [work.name for work in works if not self.shards.done(work.name)]
        if missing:
            self.workers.report_missing(stage, missing, len(works))
        self.names.extend(work.name for work in works)

    def shared(self, stage: Stage, works: Sequence[Work]) -> list[Mapping[str, Tensor]]:
        """Return all shards of a stage that needs no engine.

        Ranks divide it; a process that does not wait for others makes all and stores none.
        """
        if not self.workers.waits:
            return [work.make() for work in works]
        self.make(stage, works)
        return [self.shards.read(work.name) for work in works]

    def is_whole(self, name: str) -> bool:
        """Whether a shard exists undamaged; a damaged one is reported and will be made again."""
        if not self.shards.done(name):
            return False
        damage = self.shards.damage(name)
        if damage:
            self.progress.write(f"bench: {damage}", file=sys.stderr)
        return damage is None

    def cost(self) -> RunCost:
        """Return the cost of the run until now."""
        return self.session.cost(
            self.shards.read(name, lambda key: key in (COSTS, MADE)) for name in self.names
        )
