"""Damaged shards: only they are computed again, and the scores are the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from random import Random

from tests.faults.process import ended
from tests.faults.runs import World, run, shards_of
from tests.faults.verdict import Row, Trial, first, row


def truncated(content: bytes, rng: Random) -> bytes:
    """A truncated file, possibly empty."""
    return content[: rng.randrange(len(content))]


def flipped(content: bytes, rng: Random) -> bytes:
    """A file with one flipped bit, half of the time in its header."""
    index = rng.randrange(min(len(content), 200) if rng.random() < 0.5 else len(content))
    changed = content[index] ^ 1 << rng.randrange(8)
    return content[:index] + bytes([changed]) + content[index + 1 :]


def junk(content: bytes, rng: Random) -> bytes:
    """Random bytes."""
    return rng.randbytes(rng.choice([1, 7, 8, 100, len(content)]))


DAMAGES = (truncated, flipped, junk)


def damaged_shards(world: World, count: int) -> list[Row]:
    """At least ``count`` damaged shards, in rounds with every kind of damage."""
    trials: dict[str, list[Trial]] = {damage.__name__: [] for damage in DAMAGES}
    while sum(map(len, trials.values())) < count:
        for name, trial in _round(world):
            trials[name].append(trial)
    return [row(f"shards {name}, computed again", tried) for name, tried in trials.items()]


def _round(world: World) -> Iterator[tuple[str, Trial]]:
    """Damage every second shard, compute the part again, merge."""
    with world.copied(world.unfinished) as folder:
        shards = sorted(shards_of(folder))
        chosen = world.rng.sample(shards, max(len(DAMAGES), len(shards) // 2))
        damages = dict(zip(chosen, cycle(DAMAGES), strict=False))
        for path, damage in damages.items():
            path.write_bytes(damage(path.read_bytes(), world.rng))
        before = shards_of(folder)
        outcome = ended(run(folder, "--part", "1/1"))
        after = shards_of(folder)
        touched = [path for path in shards if after.get(path) != before[path]]
        wrong = None
        if outcome.code != 0:
            wrong = f"exit code {outcome.code} where 0 is promised"
        elif len(outcome.said) != len(chosen):
            wrong = f"{len(outcome.said)} lines about {len(chosen)} shards"
        elif touched != sorted(chosen):
            wrong = f"{len(touched)} shards were computed again, {len(chosen)} were damaged"
        wrong = first(wrong, world.goes_on(["merge", str(folder)], folder))
        for path, damage in damages.items():
            message = next((line for line in outcome.said if path.name in line), None)
            yield damage.__name__, Trial(path.name, outcome, wrong, message)
