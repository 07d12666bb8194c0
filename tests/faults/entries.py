"""Entries of a ledger with one value changed or one key removed, listed and verified.

Every second one is sealed again, as a forger would, where it can still be read. Of such an entry it
is promised that the commands end as they should, not that its change is found.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.ledger.records import PROBES, SCORES, EntryRecord
from bench.ledger.submit import sealed
from engines.checksum import sha256
from tests.faults.process import ended
from tests.faults.runs import World
from tests.faults.verdict import Outcome, Row, Trial, done, refused, row

VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 99, 0.5, 1e300, "", "x", "../x", "0x0", "1x1", [], {}, [None]),
    *([1, 2, 3], ["x"], {"x": 1}, [[]], "trained", "permuted", "9" * 40),
)
_PER_VERIFICATION = 3
"""One of so many changed entries is verified, which opens the model; all are listed."""


def changed_entries(world: World, count: int) -> Iterator[Row]:
    """``count`` entries, each with one random change of its ``entry.json``."""
    ledger = world.fresh("ledger")
    outcome = ended(["submit", str(world.finished), "--ledger", str(ledger)])
    assert done(outcome) is None, outcome
    (entry,) = ledger.rglob("entry.json")
    yield row("entries of a ledger with one change", _trials(world, ledger, entry, count))
    shutil.rmtree(ledger)


def _trials(world: World, ledger: Path, entry: Path, count: int) -> Iterator[Trial]:
    text = entry.read_text(encoding="utf-8")
    usual = EntryRecord.model_validate_json(text)
    for number in range(count):
        document = json.loads(text)
        change = _changed(world, document)
        entry.write_text(json.dumps(document), encoding="utf-8")
        forged = number % 2 == 1 and _sealed(entry)
        if number % _PER_VERIFICATION == 0:
            outcome = ended(["verify", str(entry.parent), "--items", "1"])
            wrong = None if outcome.code == 1 and _says(outcome) else refused(outcome)
        else:
            outcome = ended(["leaderboard", str(ledger), "--out", str(world.fresh("board"))])
            wrong = refused(outcome)
        # A number may be stored as another kind of number.
        if outcome.code == 0 and (forged or _is(usual, entry)):
            wrong = done(outcome)
        yield Trial(f"{change}{', sealed again' if forged else ''}", outcome, wrong)
    entry.write_text(text, encoding="utf-8")


def _changed(world: World, document: dict[str, Any]) -> str:
    """Change a value or remove a key at a random depth, and say which."""
    part: Any = document
    way: list[str] = []
    while True:
        key = world.rng.choice(list(part) if isinstance(part, dict) else range(len(part)))
        way.append(str(key))
        inner = part[key]
        if isinstance(inner, dict | list) and inner and world.rng.random() < 0.85:
            part = inner
            continue
        if world.rng.random() < 0.2:
            del part[key]
            return f"without {'.'.join(way)}"
        value = world.rng.choice([value for value in VALUES if value != inner])
        part[key] = value
        return f"{'.'.join(way)} = {value!r}"


def _sealed(entry: Path) -> bool:
    """Make the checksums fit, where the entry can be read."""
    try:
        record = EntryRecord.model_validate_json(entry.read_bytes())
    except ValueError:
        return False
    sums = {name: sha256(entry.parent / name) for name in (SCORES, PROBES)}
    entry.write_text(sealed(record, sums).model_dump_json(by_alias=True), encoding="utf-8")
    return True


def _says(outcome: Outcome) -> bool:
    """Whether a check that failed says so."""
    return outcome.printed.strip().endswith("not confirmed")


def _is(usual: EntryRecord, entry: Path) -> bool:
    return EntryRecord.model_validate_json(entry.read_bytes()) == usual
