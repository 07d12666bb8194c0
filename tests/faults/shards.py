"""Shards that were cut short or whose bits flipped: only they are made again, and the scores are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.faults.process import ended
from tests.faults.runs import World, run, shards_of
from tests.faults.verdict import Row, Trial, first, row


def truncated(content: bytes, rng: Random) -> bytes:
    """A file that was cut short anywhere, also to nothing."""
    return content[: rng.randrange(len(content))]


def flipped(content: bytes, rng: Random) -> bytes:
    """A file with one bit the other way; every second time in its head, where it says what it holds."""
    at = rng.randrange(min(len(content), 200) if rng.random() < 0.5 else len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def junk(content: bytes, rng: Random) -> bytes:
    """Other bytes altogether."""
    return rng.randbytes(rng.choice([1, 7, 8, 100, len(content)]))


DAMAGES = (truncated, flipped, junk)


def damaged_shards(world: World, count: int) -> list[Row]:
    """At least ``count`` damaged shards: in every round one damage of every kind, of shards drawn at random."""
    found: dict[str, list[Trial]] = {damage.__name__: [] for damage in DAMAGES}
    while sum(map(len, found.values())) < count:
        for name, trial in _round(world):
            found[name].append(trial)
    return [row(f"shards {name}, made again", trials) for name, trials in found.items()]


def _round(world: World) -> Iterator[tuple[str, Trial]]:
    """Damage every second shard, make the part again, merge."""
    with world.copied(world.unfinished) as folder:
        shards = sorted(shards_of(folder))
        chosen = world.rng.sample(shards, max(len(DAMAGES), len(shards) // 2))
        for site, path in enumerate(chosen):
            path.write_bytes(DAMAGES[site % len(DAMAGES)](path.read_bytes(), world.rng))
        before = shards_of(folder)
        outcome = ended(run(folder, "--part", "1/1"))
        after = shards_of(folder)
        touched = [path for path in shards if after.get(path) != before[path]]
        wrong = None if outcome.code == 0 else f"exit code {outcome.code} where 0 is promised"
        wrong = first(
            wrong,
            None
            if len(outcome.said) == len(chosen)
            else f"{len(outcome.said)} lines about {len(chosen)} shards",
            None
            if touched == sorted(chosen)
            else f"{len(touched)} shards were made again, {len(chosen)} were damaged",
            _merged(world, folder),
        )
        for site, path in enumerate(chosen):
            mine = next((line for line in outcome.said if path.name in line), None)
            yield DAMAGES[site % len(DAMAGES)].__name__, Trial(path.name, outcome, wrong, mine)


def _merged(world: World, folder: Path) -> str | None:
    return world.goes_on(["merge", str(folder)], folder)
