"""Two runs in one folder: one works, the other reports that and ends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.faults.disk import EDIT
from tests.faults.process import ended, start
from tests.faults.runs import World, paths_in, run, shards_of
from tests.faults.verdict import Row, Trial, done, first, refused, row


def locks(world: World) -> Iterator[Row]:
    """A second run during the first, two that start together, and other writing commands."""
    yield row("two runs in one folder", _runs(world))


def _runs(world: World) -> Iterator[Trial]:
    # One run for each, since it may end before the second command starts.
    for make in (run, _part, _merge, _other):
        out = world.fresh("shared")
        working = start(run(out))
        working.wait(lambda out=out: bool(shards_of(out)))  # type: ignore[misc]
        arguments = make(out)
        outcome = ended(arguments)
        wrong = first(done(working.outcome()), world.unlike(out))
        yield Trial(" ".join(arguments), outcome, first(refused(outcome), wrong))

    out = world.fresh("together")
    both = [start(run(out)) for _ in range(2)]
    ends = sorted((child.outcome() for child in both), key=lambda outcome: outcome.code)
    wrong = first(done(ends[0]), refused(ends[1]), world.unlike(out))
    yield Trial("two that start together", ends[1], wrong)

    with world.copied(world.finished) as folder:
        # Without earlier interventions, the first shard shows that this one is running.
        shutil.rmtree(folder / "interventions", ignore_errors=True)
        (folder / "interventions").mkdir()
        at = EDIT.index("--strengths") + 1
        longer = (*EDIT[:at], "1,2,4,8,16", *EDIT[at + 1 :])
        arguments = ["intervene", str(folder), *longer, "--shifts", "4", "--batch", "4"]
        working = start(arguments)
        stored = folder / "interventions"
        working.wait(lambda: any(path.suffix == ".safetensors" for path in paths_in(stored)))
        for other in (arguments, ["adam-vs-ridge", str(folder), "--cells", "1", "--epochs", "1"]):
            outcome = ended(other)
            yield Trial(" ".join(other), outcome, refused(outcome))
        finished = working.outcome()
        yield Trial("the first intervention", finished, done(finished))


def _part(out: Path) -> list[str]:
    return run(out, "--part", "1/2")


def _merge(out: Path) -> list[str]:
    return ["merge", str(out)]


def _other(out: Path) -> list[str]:
    return run(out, "--guidance", "4")
