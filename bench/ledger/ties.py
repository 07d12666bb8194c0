"""Which entries differ: paired tests of all pairs, and letters for those that do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bench.ledger.entries import Entry
from bench.ledger.records import CellRecord
from probes.bootstrap import Score, paired_difference
from probes.multiple_testing import RATE, q_values
from probes.score import sign_of

LEAST_SHARED = 10
"""Test items that two entries must share to be compared, unless one of them has fewer."""


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


Cells = dict[int, tuple[CellRecord, NDArray[np.float64]]]
"""Per number of an entry: the best layer's cell and its scores."""
Found = dict[str, Cells]
Compared = tuple[Found, list[Pair], dict[str, list[set[int]]]]
"""The best cells at a step, the compared pairs, and the tied groups per task."""


def compare(entries: Sequence[Entry], steps: Sequence[int | None]) -> list[Compared]:
    """Compare entries at each of some steps; None is each entry's last."""
    cells = [_best_cells(entries, step) for step in steps]
    scores = [
        {name: {n: at[1] for n, at in table.items()} for name, table in found.items()}
        for found in cells
    ]
    return [
        (found, tested, {name: _tied(entries, name, at, tested) for name, at in found.items()})
        for found, tested in zip(cells, pairs(entries, scores), strict=True)
    ]


def _best_cells(entries: Sequence[Entry], step: int | None) -> Found:
    found: Found = {}
    for number, entry in enumerate(entries):
        for name in entry.record.tasks:
            if at := entry.at(name, step or entry.record.steps[-1]):
                found.setdefault(name, {})[number] = at
    return found


def _tied(
    entries: Sequence[Entry], task: str, cells: Cells, compared: Sequence[Pair]
) -> list[set[int]]:
    """Return the tied groups of a task, the best first."""
    sign = sign_of(entries[next(iter(cells))].record.tasks[task].higher_is_better)
    means = {
        n: -np.inf if cell.mean is None else sign * cell.mean for n, (cell, _) in cells.items()
    }
    order = sorted(cells, key=lambda number: -means[number])
    return tied(order, [(p.first, p.second) for p in compared if p.task == task and p.differs])


Scores = Mapping[str, Mapping[int, NDArray[np.float64]]]
"""Per task and number of an entry, a score per test item."""


def pairs(entries: Sequence[Entry], scores: Sequence[Scores]) -> list[list[Pair]]:
    """Compare all pairs of entries in every task at each of some steps.

    Both have all their steps tested at once. The false discovery rate is over the pairs of a step.
    """
    found: list[list[Pair]] = [[] for _ in scores]
    for task in dict.fromkeys(name for of_step in scores for name in of_step):
        numbers = sorted({number for of_step in scores for number in of_step.get(task, ())})
        for first, second in combinations(numbers, 2):
            rows, others = shared_rows(entries[first], entries[second])
            steps = [
                step
                for step, of_step in enumerate(scores)
                if {first, second} <= of_step.get(task, {}).keys()
            ]
            if not steps:
                continue
            sign = sign_of(entries[first].record.tasks[task].higher_is_better)
            gain = paired_difference(
                np.array([sign * scores[step][task][first][rows] for step in steps]),
                np.array([sign * scores[step][task][second][others] for step in steps]),
            )
            for step, *values in zip(
                steps,
                *(part.tolist() for part in (gain.mean, gain.low, gain.high, gain.p)),
                strict=True,
            ):
                found[step].append(
                    Pair(task, first, second, len(rows), Score(*values[:3]), values[3])
                )
    return [_with_q(compared) for compared in found]


def _with_q(compared: Sequence[Pair]) -> list[Pair]:
    q = q_values(np.array([pair.p for pair in compared]))
    return [replace(pair, q=float(value)) for pair, value in zip(compared, q, strict=True)]


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
