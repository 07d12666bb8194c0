"""Changes of probe scores between two runs of the same items, cell by cell.

A cell's change is the mean over test images of its score's change, paired by image. All changes are
tested together at a false discovery rate of 5 %. A significant change is a regression when the mean
loss, in the direction of the metric, exceeds the tolerance. A score that is undefined where it was
defined before is a loss beyond every tolerance. Only probes of the trained network are
compared: a change of a baseline or control is no loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np

from bench.errors import UserError
from bench.regression.changes import Change, tested_together
from bench.runs.conditions import LABELER, differences, of_labels
from bench.runs.results import Results, TaskResults
from bench.steps import number_of
from extract.networks import TRAINED
from probes.bootstrap import TEST_DRAWS, paired_difference
from probes.multiple_testing import RATE
from probes.probe_set import ACTIVATIONS, WITH_POSITION, Cell
from probes.reaches import FEW


def metric_names(*runs: Results) -> list[str]:
    """Every metric that all runs have."""
    sets = [[metric for task in run.tasks.values() for metric in task.metrics] for run in runs]
    return list(dict.fromkeys(name for name in sets[0] if all(name in others for others in sets)))


def quality_changes(base: Results, new: Results, metrics: Sequence[str]) -> list[Change]:
    """Changes of the named metrics, or of each task's headline metric if none is named.

    Raises UserError when the runs do not share their test items, tasks and cells.
    """
    _refuse_unlike(base, new)
    pairs = [
        (task, metric)
        for task in base.tasks.values()
        for metric in (metrics or task.metrics[:1])
        if metric in task.metrics and metric in new.tasks[task.name].metrics
    ]
    cells = {task.name: _probed(task) for task, _ in pairs}
    # Enough for a single changed cell to be significant: p is never below 1 / (draws + 1), and of
    # few images never below twice that.
    least = 2 if len(base.record.test_items) < FEW else 1
    tested = sum(len(cells[task.name]) for task, _ in pairs)
    draws = max(TEST_DRAWS, ceil(least * tested / RATE))
    return tested_together(
        change
        for task, metric in pairs
        for change in _changes(task, new.tasks[task.name], metric, cells[task.name], draws)
    )


def _changes(
    base: TaskResults, new: TaskResults, metric: str, cells: Sequence[Cell], draws: int
) -> Iterator[Change]:
    before, after = (_table(task, metric, cells) for task in (base, new))
    sign = base.sign(metric)
    difference = paired_difference(after, before, draws)
    for index, cell in enumerate(cells):
        mean, low, high = difference.mean[index], difference.low[index], difference.high[index]
        position = " with position" if cell.probe == WITH_POSITION else ""
        where = f"{base.name} {cell.layer} step {number_of(cell.step)}{position}"
        means = _mean(before[index]), _mean(after[index])
        lost = int((np.isfinite(before[index]) & ~np.isfinite(after[index])).sum())
        if lost:
            span = f"undefined on {lost} of {len(after[index])} images"
            yield Change(metric, where, *means, np.inf, span, np.nan, is_lost=True)
            continue
        span, p = f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]", float(difference.p[index])
        yield Change(metric, where, *means, float(-sign * mean), span, p)


def _mean(scores: np.ndarray) -> float:
    """The mean of the defined scores; nan without any."""
    defined = scores[np.isfinite(scores)]
    return float(defined.mean()) if len(defined) else float("nan")


def _probed(task: TaskResults) -> list[Cell]:
    return [
        cell
        for cell in task.cells
        if cell.network == TRAINED and cell.probe in (ACTIVATIONS, WITH_POSITION)
    ]


def _table(task: TaskResults, metric: str, cells: Sequence[Cell]) -> np.ndarray:
    row = {cell: index for index, cell in enumerate(task.cells)}
    table: np.ndarray = task.scores[[row[cell] for cell in cells], task.metrics.index(metric)]
    return table


def _refuse_unlike(base: Results, new: Results) -> None:
    items = base.record.test_items, new.record.test_items
    if items[0] != items[1]:
        shared = len(set(items[0]) & set(items[1]))
        raise UserError(
            f"{base.path} and {new.path} share {shared} of {len(items[0])} and {len(items[1])} "
            "test items; scores are compared image by image, so run both on the same items"
        )
    if set(base.tasks) != set(new.tasks):
        raise UserError(
            f"{base.path} has the tasks {', '.join(base.tasks)}, {new.path} has "
            f"{', '.join(new.tasks)}; run both with the same --tasks"
        )
    for name, (before, after) in of_labels(differences([base, new])).items():
        what = "the labelers differ" if LABELER in name else "the runs differ"
        raise UserError(
            f"{what} ({name}): {base.path} has {before}, {new.path} has {after}; "
            "scores are compared against the same labels of the same images, so run both alike"
        )
    for name, task in base.tasks.items():
        differing = set(_probed(task)) ^ set(_probed(new.tasks[name]))
        if differing:
            cell = sorted(differing, key=str)[0]
            raise UserError(
                f"{base.path} and {new.path} probe different cells ({len(differing)} of {name}, "
                f"such as {cell.layer} at step {number_of(cell.step)}); "
                "run both with the same --layers and --steps"
            )
