"""Which layers of a model differ at the last step: paired tests within one entry."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from bench.ledger.entries import Entry
from bench.ledger.records import TaskRecord
from bench.ledger.ties import letters, tied
from extract.networks import TRAINED
from probes.bootstrap import paired_difference
from probes.multiple_testing import RATE, q_values
from probes.probe_set import ACTIVATIONS
from probes.score import sign_of


def layer_letters(entry: Entry) -> dict[str, dict[str, str]]:
    """Return letters per task and layer: layers that share one do not differ significantly.

    The false discovery rate is controlled over all pairs of layers and tasks of the entry.
    """
    members = {name: _best_first(entry, task) for name, task in entry.record.tasks.items()}
    compared = [(name, *pair) for name, rows in members.items() for pair in combinations(rows, 2)]
    differing = _differing(entry, compared)
    found = {}
    for name, rows in members.items():
        groups = tied(rows, [(a, b) for task, a, b in differing if task == name])
        cells = entry.record.tasks[name].cells
        found[name] = {cells[row].layer: letters(groups, row) for row in rows}
    return found


def _best_first(entry: Entry, task: TaskRecord) -> list[int]:
    """Return the rows of a task's layers at the last step."""
    kind = TRAINED, ACTIVATIONS, entry.record.steps[-1]
    sign = sign_of(task.higher_is_better)
    quality = {
        row: -np.inf if cell.mean is None else sign * cell.mean
        for row, cell in enumerate(task.cells)
        if (cell.network, cell.probe, cell.step) == kind
    }
    return sorted(quality, key=lambda row: -quality[row])


def _differing(entry: Entry, compared: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    if not compared:
        return []
    first = np.array([entry.scores[name][a] for name, a, _ in compared])
    second = np.array([entry.scores[name][b] for name, _, b in compared])
    gain = paired_difference(first, second)
    differs = (gain.mean != 0) & (q_values(gain.p) <= RATE)
    return [pair for pair, is_so in zip(compared, differs, strict=True) if is_so]
