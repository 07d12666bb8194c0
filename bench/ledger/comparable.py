"""Which entries of a ledger can be compared, and why others are kept apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bench.config import nearest
from bench.errors import UserError
from bench.ledger.entries import Entry
from bench.ledger.ties import LEAST_SHARED, shared_rows

_LAST = "the last"
_FREE = ("sampler", "steps", "precision")
"""Conditions that may be allowed to differ; other labels or items give scores another meaning."""


@dataclass(frozen=True, slots=True)
class Group:
    """Entries whose scores can be compared."""

    conditions: dict[str, str]
    entries: tuple[Entry, ...]
    apart: str
    """Why they are not in the first group; empty for the first."""


def conditions_of(entry: Entry) -> dict[str, str]:
    """Return what has to be equal for two entries to be compared.

    Guidance is no condition: every model has its own.
    """
    record = entry.record
    steps = len(record.sampler.sigmas)
    return {
        "dataset": record.dataset.name,
        "training items": record.dataset.training_items,
        "source": record.sampler.source,
        "labeler": record.labeler.name,
        "weights of the labeler": record.labeler.weights,
        "sampler": record.sampler.name,
        "steps": str(steps),
        "precision": record.machine.precision,
        "last probed step": _LAST if record.steps[-1] == steps else str(record.steps[-1]),
    }


def grouped(entries: Sequence[Entry], across: Collection[str] = ()) -> list[Group]:
    """Group entries that can be compared, the largest group first.

    ``across`` names conditions that may differ within a group. Raises UserError for one that
    may not.
    """
    for name in across:
        if name not in _FREE:
            raise UserError(f"entries cannot be compared across {name!r}{nearest(name, _FREE)}")
    groups: list[tuple[dict[str, str], list[Entry]]] = []
    for entry in entries:
        conditions = {k: v for k, v in conditions_of(entry).items() if k not in across}
        for known, members in groups:
            if known == conditions and all(_share(entry, other) for other in members):
                members.append(entry)
                break
        else:
            groups.append((conditions, [entry]))
    groups.sort(key=lambda group: -len(group[1]))
    first = groups[0][0]
    return [
        Group(conditions, tuple(members), "" if place == 0 else _why(first, conditions))
        for place, (conditions, members) in enumerate(groups)
    ]


def _share(a: Entry, b: Entry) -> bool:
    """Whether two entries have enough test items in common, or one of them has no more."""
    shared = len(shared_rows(a, b)[0])
    return shared >= min(LEAST_SHARED, len(a.record.items), len(b.record.items))


def _why(first: dict[str, str], conditions: dict[str, str]) -> str:
    differing = [
        f"{name} {value} instead of {first[name]}"
        for name, value in conditions.items()
        if value != first[name]
    ]
    return "; ".join(differing) or f"they share fewer than {LEAST_SHARED} test items with it"
