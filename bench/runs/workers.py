"""Who makes which shards: processes that torchrun starts together, or parts that machines make by themselves.

Nothing is sent between processes but that they have come so far: what they make for one another lies in the run folder.
So the group is gloo's on any machine; with CUDA every rank takes the card of its place on its machine.
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
from bench.study import Study

_MEETING = timedelta(minutes=5)
"""How long a rank waits for the others to start."""
_WORKING = timedelta(days=30)
"""How long a rank may work while others wait: a rank that ends closes its connections, which is noticed at once."""
_POLL_SECONDS = 0.05
_GOES_ON = "finished shards are kept: run the same command again"


class IncompleteError(UserError):
    """Shards are missing that others have to make."""


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among those that work on a run together, which all wait for one another; by default it is alone."""

    rank: int = 0
    world: int = 1

    def mine(self, index: int) -> bool:
        """Whether this process makes the shard of that place in its stage."""
        return index % self.world == self.rank

    @property
    def waits(self) -> bool:
        """Whether it waits for the others, so that solving can be divided as well."""
        return True

    @property
    def leads(self) -> bool:
        """Whether this process writes the results and prints them."""
        return self.rank == 0

    @property
    def shows(self) -> bool:
        """Whether it shows its progress."""
        return self.leads

    def barrier(self) -> None:
        """Wait until all have come here. Raises UserError when one of them has ended."""
        if self.world == 1:
            return
        try:
            waiting = distributed.barrier(async_op=True, group=_GROUP[0])
            # Asleep in Python and not in gloo, so that signals are heard.
            while not waiting.is_completed():
                time.sleep(_POLL_SECONDS)
            waiting.wait()
        except RuntimeError as error:
            raise UserError(
                f"rank {self.rank}: another rank of the {self.world} has ended; {_GOES_ON}"
            ) from error

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader goes through the block before the others do."""
        if not self.leads:
            self.barrier()
        yield
        if self.leads:
            self.barrier()

    def keep(self, folder: RunFolder) -> AbstractContextManager[None]:
        """Keep other runs out of the folder: the leader does it for all."""
        return folder.locked() if self.leads else nullcontext()

    def missing(self, stage: str, names: list[str], total: int) -> NoReturn:
        """End for want of shards. Raises IncompleteError."""
        # All have passed the barrier, so that somebody has deleted them.
        raise IncompleteError(
            f"{len(names)} of the {total} shards of {stage} are gone, such as {names[0]}; {_GOES_ON}"
        )


class Part(Workers):
    """One of several parts of a run, made when and where it suits; parts share the folder and never wait."""

    @property
    def waits(self) -> bool:
        """A part never waits."""
        return False

    @property
    def leads(self) -> bool:
        """Results are written by a merge."""
        return False

    @property
    def shows(self) -> bool:
        """Every part has a screen of its own."""
        return True

    def barrier(self) -> None:
        """Not wait."""

    def keep(self, folder: RunFolder) -> AbstractContextManager[None]:
        """Keep whole runs and this very part out of the folder."""
        return folder.locked(f"{self.rank + 1}-of-{self.world}")

    def missing(self, stage: str, names: list[str], total: int) -> NoReturn:
        """End until other parts are made. Raises IncompleteError."""
        raise IncompleteError(
            f"part {self.rank + 1}/{self.world} has made its shards of {stage}; other parts have yet to make "
            f"{len(names)} of {total}, such as {names[0]}: run it again when they are there"
        )


class Merger(Workers):
    """Makes no shard and writes the results of those that are there."""

    @property
    def waits(self) -> bool:
        """A merge waits for nobody."""
        return False

    def mine(self, index: int) -> bool:
        """Never."""
        return False

    def missing(self, stage: str, names: list[str], total: int) -> NoReturn:
        """Refuse. Raises IncompleteError."""
        raise IncompleteError(
            f"{len(names)} of the {total} shards of {stage} are missing, such as {names[0]}; "
            "make them with --part, or run the command without it, which generates them and finishes"
        )


_GROUP: list[distributed.ProcessGroup] = []
"""The joined group, one at most."""


@contextmanager
def joined() -> Iterator[Workers]:
    """Join the ranks that torchrun has started; alone where it has not.

    Raises UserError when the others do not come, and in the block when the launcher stops this rank.
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
            f"the {world} ranks do not find one another ({line}); start them with torchrun"
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
        f"rank {rank}: stopped by the launcher, as it does when another rank has ended; {_GOES_ON}"
    )


def sharing_cores(study: Study, workers: Workers) -> Study:
    """The study with this rank's share of the machine's cores, unless the number of threads was chosen."""
    beside = min(workers.world, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return (
        study if study.config.threads else replace(study, threads=max(1, study.threads // beside))
    )


def part_of(text: str) -> Part:
    """The part that ``3/8`` names. Raises UserError for what names none."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part {text} names no part; write 3/8 for the third of eight")
    return Part(int(number) - 1, int(count))
