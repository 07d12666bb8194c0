"""Scores at a noise level: between steps, and of two runs at equal log-SNR.

Steps of different samplers do not compare, noise levels do. Per-image scores of the probed steps
are interpolated linearly in the log-SNR, for each image, so that intervals and tests are those of
all other scores. Outside the range of the probed steps a score is undefined (nan).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError
from bench.runs.conditions import TEST_ITEMS, stored_conditions
from bench.runs.results import Results, TaskResults
from extract.networks import TRAINED
from probes.bootstrap import Array, Score, paired_difference, score_of
from probes.multiple_testing import RATE, q_values
from probes.probe_set import ACTIVATIONS
from probes.unpaired import unpaired_difference

SPACINGS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
MOST_LEVELS = 8
"""A common grid has the least of these spacings with which it has no more levels than this."""
_SAME = 1e-6
"""Levels of two samplers that differ by less are equal."""


def at_log_snr(scores: Array, log_snr: Sequence[float], levels: Sequence[float]) -> Array:
    """Scores at noise levels, by linear interpolation between the two neighbouring steps.

    ``scores`` is images x steps, ``log_snr`` has one value per step in any order, and the result is
    images x ``levels``. It is nan outside the range of ``log_snr``, where a score of a neighbouring
    step is nan, and between a finite and an infinite level; at the level of a step it is the
    score of this step.
    """
    order = np.argsort(log_snr, kind="stable")
    known, values = np.asarray(log_snr, np.float64)[order], scores[:, order]
    result = np.full((len(scores), len(levels)), np.nan)
    for column, level in enumerate(levels):
        right = int(np.searchsorted(known, level))
        if right < len(known) and known[right] == level:
            result[:, column] = values[:, right]
        elif 0 < right < len(known) and np.isfinite(known[right - 1 : right + 1]).all():
            share = (level - known[right - 1]) / (known[right] - known[right - 1])
            result[:, column] = (1 - share) * values[:, right - 1] + share * values[:, right]
    return result


def levels_of(results: Results) -> tuple[float, ...]:
    """The log-SNR of every probed step. Raises UserError for a run that did not record them."""
    if results.log_snr is None:
        raise UserError(
            f"{results.path} does not hold the noise levels of its steps, as an earlier version "
            "made it; make the run again, or show it by step"
        )
    return results.log_snr


def common_levels(of_runs: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Noise levels at which all runs have scores, from the log-SNR of each run's steps.

    They are the levels themselves where the runs share them, else a grid of round values. Empty
    where the runs' ranges do not overlap.
    """
    first = of_runs[0]
    if all(len(other) == len(first) and _equal(other, first) for other in of_runs):
        return tuple(first)
    finite = [[level for level in levels if np.isfinite(level)] for levels in of_runs]
    if not all(finite):
        return ()
    low, high = max(map(min, finite)), min(map(max, finite))
    for spacing in SPACINGS:
        first_index, last_index = int(np.ceil(low / spacing)), int(np.floor(high / spacing))
        if last_index - first_index < MOST_LEVELS:
            break
    # Division keeps 0.3 what it is, where 3 times 0.1 is not.
    return tuple(index / (1 / spacing) for index in range(first_index, last_index + 1))


def _equal(levels: Sequence[float], others: Sequence[float]) -> bool:
    return bool(np.allclose(levels, others, rtol=0, atol=_SAME))


@dataclass(frozen=True, slots=True)
class BestLayers:
    """A run's best layer at every probed step, chosen on training images."""

    layers: tuple[str, ...]
    log_snr: tuple[float, ...]
    scores: Array
    """Images x steps."""

    def at(self, levels: Sequence[float]) -> Array:
        """Per-image scores at noise levels, images x levels; nan outside the steps' range."""
        # Levels that runs share may differ by the rounding of their samplers.
        near = [
            next((known for known in self.log_snr if abs(known - level) <= _SAME), level)
            for level in levels
        ]
        return at_log_snr(self.scores, self.log_snr, near)

    def layers_at(self, level: float) -> tuple[str, ...]:
        """The layer or layers whose scores the score at a level comes from; none outside."""
        below = [index for index, known in enumerate(self.log_snr) if known <= level + _SAME]
        above = [index for index, known in enumerate(self.log_snr) if known >= level - _SAME]
        if not below or not above:
            return ()
        return tuple(dict.fromkeys((self.layers[below[-1]], self.layers[above[0]])))


def best_layers(
    results: Results, task: TaskResults, network: str = TRAINED, probe: str = ACTIVATIONS
) -> BestLayers | None:
    """The best layers of one network and kind of probe; None where a step has no such probe.

    Raises UserError for a run that did not record noise levels.
    """
    cells = [task.best(network=network, step=step, probe=probe) for step in results.steps]
    found = [cell for cell in cells if cell is not None]
    if len(found) < len(cells):
        return None
    scores = np.array([task.score(cell) for cell in found]).T
    return BestLayers(tuple(cell.layer for cell in found), levels_of(results), scores)


@dataclass(frozen=True, slots=True)
class LevelDifference:
    """Two runs at one noise level, in one task."""

    task: str
    log_snr: float
    scores: tuple[Score, Score]
    """Of the first and of the other run."""
    layers: tuple[str, str]
    difference: Score
    """The other run minus the first, with the sign that makes higher better."""
    is_paired: bool
    """Whether both runs have the same test items, so that differences are taken per item."""
    p: float
    q: float
    """The least false discovery rate, over all differences, at which this one is significant."""

    @property
    def is_significant(self) -> bool:
        """Whether the runs differ at a false discovery rate of 5 %."""
        return self.q <= RATE


def compare_at_levels(
    first: Results, other: Results, levels: Sequence[float]
) -> list[LevelDifference]:
    """Compare the best layers of two runs at noise levels, in every task that both have.

    Differences are paired where the runs have the same test items (prompts and seeds).
    """
    rows = []
    for name in (name for name in first.tasks if name in other.tasks):
        task, same = first.tasks[name], other.tasks[name]
        curves = best_layers(first, task), best_layers(other, same)
        if task.headline != same.headline or curves[0] is None or curves[1] is None:
            continue
        paired = have_equal_items(first, other)
        order = _order(first, other) if paired else slice(None)
        values = curves[0].at(levels), curves[1].at(levels)[order]
        difference = paired_difference if paired else unpaired_difference
        gaps = difference(task.sign() * values[1].T, task.sign() * values[0].T)
        rows += [
            LevelDifference(
                name,
                level,
                (score_of(values[0][:, column]), score_of(values[1][:, column])),
                (", ".join(curves[0].layers_at(level)), ", ".join(curves[1].layers_at(level))),
                Score(*(float(x[column]) for x in (gaps.mean, gaps.low, gaps.high))),
                paired,
                float(gaps.p[column]),
                np.nan,
            )
            for column, level in enumerate(levels)
        ]
    return _with_q_values(rows)


def _with_q_values(rows: Iterable[LevelDifference]) -> list[LevelDifference]:
    rows = list(rows)
    q = q_values(np.array([row.p for row in rows]))
    return [replace(row, q=float(value)) for row, value in zip(rows, q, strict=True)]


def have_equal_items(first: Results, other: Results) -> bool:
    """Whether two runs have the same test items: ids, prompts and seeds."""
    items = [stored_conditions(results).get(TEST_ITEMS) for results in (first, other)]
    return items[0] is not None and items[0] == items[1]


def _order(first: Results, other: Results) -> NDArray[np.int_]:
    """Where the first run's test items lie among those of the other."""
    places = {item: index for index, item in enumerate(other.record.test_items)}
    return np.array([places[item] for item in first.record.test_items])
