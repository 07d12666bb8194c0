"""Which entries differ: paired tests of all pairs, and letters for those that do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bench.ledger.entries import Entry
from probes.bootstrap import Score, paired_difference
from probes.multiple_testing import RATE, q_values
from probes.score import sign_of

LEAST_SHARED = 10
"""Test items that two entries must share to be compared."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two entries, compared in one task over the test items that they share."""

    task: str
    first: int
    second: int
    """Numbers of the entries in their group."""
    items: int
    gain: Score
    """Mean difference; above zero the first is better."""
    p: float
    q: float = np.nan
    """The least false discovery rate, over all pairs of the group, at which the two differ."""

    @property
    def differs(self) -> bool:
        """Whether the two differ at a false discovery rate of 5 %."""
        return self.gain.mean != 0 and self.q <= RATE


def shared_rows(a: Entry, b: Entry) -> tuple[list[int], list[int]]:
    """Return the columns of the items that both entries have, in the same order."""
    shared = [key for key in a.rows if key in b.rows]
    return [a.rows[key] for key in shared], [b.rows[key] for key in shared]


def pairs(
    entries: Sequence[Entry], scores: Mapping[str, Mapping[int, NDArray[np.float64]]]
) -> list[Pair]:
    """Compare all pairs of entries in every task.

    ``scores`` has, per task and number of an entry, a score per test item.
    """
    found = []
    for task, tables in scores.items():
        sign = sign_of(entries[next(iter(tables))].record.tasks[task].higher_is_better)
        for first, second in combinations(sorted(tables), 2):
            rows, others = shared_rows(entries[first], entries[second])
            gain = paired_difference(
                sign * tables[first][None, rows], sign * tables[second][None, others]
            )
            score = Score(float(gain.mean[0]), float(gain.low[0]), float(gain.high[0]))
            found.append(Pair(task, first, second, len(rows), score, float(gain.p[0])))
    q = q_values(np.array([pair.p for pair in found]))
    return [replace(pair, q=float(value)) for pair, value in zip(found, q, strict=True)]


def tied(members: Iterable[int], differing: Iterable[tuple[int, int]]) -> list[set[int]]:
    """Return the largest sets without a differing pair, in the order of their members.

    A member may be in several, since two that differ can both be tied with a third. The method is
    the insertion of Piepho (2004, A letter-based representation of all pairwise comparisons).
    """
    order = {member: place for place, member in enumerate(members)}
    groups = [set(order)]
    for a, b in differing:
        split = []
        for group in groups:
            split += [group - {a}, group - {b}] if {a, b} <= group else [group]
        # A set that lies in another one says nothing new.
        unique = [group for place, group in enumerate(split) if group not in split[:place]]
        groups = [group for group in unique if not any(group < other for other in unique)]
    return sorted(groups, key=lambda group: sorted(order[member] for member in group))


def letters(groups: Sequence[set[int]], member: int) -> str:
    """Return the letters of a member's groups: a, b, ..., z, aa, ab, ..."""
    return " ".join(_letter(place) for place, group in enumerate(groups) if member in group)


def _letter(place: int) -> str:
    first, last = divmod(place, 26)
    return (_letter(first - 1) if first else "") + chr(ord("a") + last)
