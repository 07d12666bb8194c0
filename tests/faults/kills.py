"""SIGKILL at random moments of runs and ranks: finished shards stay, scores are the same."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from tests.faults.process import Child, start
from tests.faults.runs import World, paths_in, run, shards_of
from tests.faults.verdict import Outcome, Row, Trial, first, refused, row

PER_RUN = 5
"""Kills of one run before it may end."""
PROGRAM_EVERY = 10
"""One of so many is started as a program, the others are forked."""
_FILES = 36
"""Number of files that a run creates in its folder."""
_PROGRAM = ("-m", "bench")
_TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "bench")


def kills(world: World, count: int) -> Iterator[Row]:
    """Kills of runs, then of ranks."""
    yield row("SIGKILL of a run, rerun to its end", _runs(world, count))
    yield row("SIGKILL of one of two ranks", _ranks(world))
    yield row("SIGKILL of one rank under torchrun", [_torchrun(world)])


def _runs(world: World, count: int) -> Iterator[Trial]:
    """At least ``count`` kills: each run is killed a few times and then finished."""
    killed = 0
    while killed < count:
        out, moments, lost = world.fresh("killed"), [], None
        while len(moments) < min(PER_RUN, count - killed):
            as_program = (killed + len(moments)) % PROGRAM_EVERY == 0
            before = shards_of(out)
            child = start(run(out), program=_PROGRAM if as_program else ())
            moment = _kill(world, child, out, as_program)
            if moment is None:
                break
            moments.append(moment)
            after = shards_of(out)
            # A finished run has removed its shards.
            if not (out / "run.json").exists():
                lost = lost or next(
                    (f"{path.name} was lost" for path in before if after.get(path) != before[path]),
                    None,
                )
        killed += len(moments)
        wrong = first(lost, world.goes_on(run(out), out))
        if not moments:
            wrong = first(wrong, "it ended before it could be killed")
        shutil.rmtree(out, ignore_errors=True)
        for moment in moments:
            yield Trial(
                f"killed {moment}",
                _NOTHING,
                wrong,
                "nothing (it is killed); the rerun resumes from its shards",
            )


_NOTHING = Outcome(-9, "", "")


def _kill(world: World, child: Child, out: Path, as_program: bool) -> str | None:
    """Kill at a random time or file; return when, or None if it had ended."""
    if not as_program and world.rng.random() < 0.5:
        number, seen = world.rng.randint(1, _FILES), set[str]()
        moment = f"at file {number}"

        def come() -> bool:
            seen.update(map(str, paths_in(out)))
            return len(seen) >= number

        ended = child.wait(come)
    else:
        # A program starts more slowly than the forked run that was timed.
        seconds = world.rng.uniform(0.1, 1.0) * world.seconds + (4.0 if as_program else 0.0)
        moment = f"after {seconds:.2f} s"
        ended = child.wait(seconds=seconds)
    if ended:
        return None
    child.kill()
    return f"{moment}{' of python -m bench' if as_program else ''}"


def _ranks(world: World) -> Iterator[Trial]:
    """Kill one of two ranks when shards appear: the other reports it, and a rerun finishes."""
    for victim in (0, 1):
        out = world.fresh("ranks")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        workers = [start(run(out), partial(_join, rank, port)) for rank in (0, 1)]
        workers[1 - victim].wait(lambda out=out: bool(shards_of(out)))  # type: ignore[misc]
        workers[victim].kill()
        before = shards_of(out)
        survivor = workers[1 - victim].outcome()
        is_kept = before and before.keys() <= shards_of(out).keys()
        lost = None if is_kept else "finished shards were lost"
        wrong = first(refused(survivor), lost, world.goes_on(run(out), out))
        shutil.rmtree(out, ignore_errors=True)
        yield Trial(f"rank {victim} of two killed", survivor, wrong)


def _join(rank: int, port: int) -> None:
    os.environ.update(
        WORLD_SIZE="2", RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )


def _torchrun(world: World) -> Trial:
    """The launcher reports a failed rank in its own way; the bench adds one sentence."""
    out = world.fresh("torchrun")
    launcher = start(run(out), program=_TORCHRUN)
    launcher.wait(lambda: bool(shards_of(out)))
    workers = _ranks_of(launcher)
    if not workers:
        return Trial(
            "rank 1 killed",
            launcher.outcome(),
            "torchrun has started no ranks that could be killed",
        )
    workers["1"].kill()
    outcome = launcher.outcome()
    sentences = [line for line in outcome.said if line.startswith("bench: ")]
    wrong = None
    if len(sentences) != 1 or outcome.code == 0:
        wrong = f"{len(sentences)} sentences of the bench, exit code {outcome.code}"
    wrong = first(wrong, _left(workers), world.goes_on(run(out), out))
    shutil.rmtree(out, ignore_errors=True)
    return Trial("rank 1 of two killed under torchrun", outcome, wrong, next(iter(sentences), None))


def _ranks_of(launcher: Child) -> dict[str, psutil.Process]:
    if launcher.ended():
        return {}
    ranks = {}
    for process in psutil.Process(launcher.pid).children(recursive=True):
        try:
            ranks[process.environ().get("RANK", "")] = process
        except psutil.Error:
            continue
    return {rank: process for rank, process in ranks.items() if rank}


def _left(workers: dict[str, psutil.Process]) -> str | None:
    time.sleep(0.2)
    is_running = any(process.is_running() for process in workers.values())
    return "a rank continues without the others" if is_running else None
