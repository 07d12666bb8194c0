"""Divide the shards of a run among ranks of torchrun, or among parts that machines make alone.

Processes only signal their progress; the shards that they share lie in the run folder. So the
group uses gloo on any machine; with CUDA every rank takes the GPU of its local rank.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from types import FrameType
from typing import NoReturn

import torch
from torch import distributed

from bench.errors import UserError
from bench.runs.folder import RunFolder
from bench.runs.shard_keys import Stage
from bench.study import Study

_MEETING = timedelta(minutes=5)
"""How long a rank waits for the others to start."""
_WORKING = timedelta(days=30)
"""How long a rank may work while others wait; the end of a rank is noticed at once."""
_POLL_SECONDS = 0.05
_RESUME = "finished shards are kept: run the same command again"


class IncompleteError(UserError):
    """Shards are missing that others have to make."""


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among the ranks of a run, which wait for one another; by default it is alone."""

    rank: int = 0
    world: int = 1

    def makes(self, index: int) -> bool:
        """Whether this process makes the shard of that index in its stage."""
        return index % self.world == self.rank

    @property
    def waits(self) -> bool:
        """Whether it waits for the others, so that fitting can be divided as well."""
        return True

    @property
    def leads(self) -> bool:
        """Whether this process writes the results and prints them."""
        return self.rank == 0

    @property
    def shows_progress(self) -> bool:
        """Whether it shows a progress bar."""
        return self.leads

    def barrier(self) -> None:
        """Wait until all ranks reach this call. Raises UserError when one of them has ended."""
        if self.world == 1:
            return
        try:
            waiting = distributed.barrier(async_op=True, group=_GROUP[0])
            # Sleeping in Python, not in gloo, lets signals through.
            while not waiting.is_completed():
                time.sleep(_POLL_SECONDS)
            waiting.wait()
        except RuntimeError as error:
            raise UserError(
                f"rank {self.rank}: another rank of the {self.world} has ended; {_RESUME}"
            ) from error

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the leader execute the block before the others do."""
        if not self.leads:
            self.barrier()
        yield
        if self.leads:
            self.barrier()

    def keep(self, folder: RunFolder) -> AbstractContextManager[None]:
        """Lock the folder against other runs; the leader does so for all."""
        return folder.locked() if self.leads else nullcontext()

    def report_missing(self, stage: Stage, names: list[str], total: int) -> NoReturn:
        """Raise IncompleteError for missing shards."""
        # All ranks have passed the barrier, so the shards have been deleted.
        raise IncompleteError(
            f"{len(names)} of the {total} shards of {stage} are gone, such as {names[0]}; {_RESUME}"
        )


class Part(Workers):
    """One of several parts of a run, made at any time; parts share the folder and never wait."""

    @property
    def waits(self) -> bool:
        """A part never waits."""
        return False

    @property
    def leads(self) -> bool:
        """Results are written by a merge."""
        return False

    @property
    def shows_progress(self) -> bool:
        """Every part has its own terminal."""
        return True

    def barrier(self) -> None:
        """Return at once."""

    def keep(self, folder: RunFolder) -> AbstractContextManager[None]:
        """Lock the folder against whole runs and against this part."""
        return folder.locked(f"{self.rank + 1}-of-{self.world}")

    def report_missing(self, stage: Stage, names: list[str], total: int) -> NoReturn:
        """Raise IncompleteError until other parts are made."""
        raise IncompleteError(
            f"part {self.rank + 1}/{self.world} has made its shards of {stage}; other parts have "
            f"yet to make {len(names)} of {total}, such as {names[0]}: run it again afterwards"
        )


class Merger(Workers):
    """Makes no shard and writes the results of the existing ones."""

    @property
    def waits(self) -> bool:
        """A merge waits for nobody."""
        return False

    def makes(self, index: int) -> bool:
        """A merge makes no shard."""
        return False

    def report_missing(self, stage: Stage, names: list[str], total: int) -> NoReturn:
        """Raise IncompleteError."""
        raise IncompleteError(
            f"{len(names)} of the {total} shards of {stage} are missing, such as {names[0]}; "
            "make them with --part, or run the command without it, which makes them and finishes"
        )


_GROUP: list[distributed.ProcessGroup] = []
"""The joined group, at most one."""


@contextmanager
def joined() -> Iterator[Workers]:
    """Join the ranks that torchrun has started; without torchrun this process is alone.

    Raises UserError when the others do not start, and in the block when the launcher stops it.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Workers()
        return
    before = signal.signal(signal.SIGTERM, _stopped)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        distributed.init_process_group("gloo", timeout=_MEETING)
        _GROUP.append(distributed.new_group(backend="gloo", timeout=_WORKING))
    except (RuntimeError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise UserError(
            f"the {world} ranks cannot connect to each other ({line}); start them with torchrun"
        ) from error
    try:
        yield Workers(int(os.environ["RANK"]), world)
    finally:
        _GROUP.clear()
        distributed.destroy_process_group()
        signal.signal(signal.SIGTERM, before)


def _stopped(_signal: int, _frame: FrameType | None) -> NoReturn:
    rank = os.environ.get("RANK")
    raise UserError(
        f"rank {rank}: stopped by the launcher, perhaps because another rank has ended; {_RESUME}"
    )


def sharing_cores(study: Study, workers: Workers) -> Study:
    """Return the study with this rank's share of the cores, unless threads were chosen."""
    beside = min(workers.world, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if study.config.threads:
        return study
    return replace(study, threads=max(1, study.threads // beside))


def part_of(text: str) -> Part:
    """Return the part that ``3/8`` names. Raises UserError when the text names none."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part {text} names no part; write 3/8 for the third of eight")
    return Part(int(number) - 1, int(count))
