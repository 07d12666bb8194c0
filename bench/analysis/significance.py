"""Tests of every cell of a run at once, at a false discovery rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.runs.results import Results, TaskResults
from extract.networks import TRAINED
from probes.bootstrap import Array, Difference, paired_difference
from probes.multiple_testing import RATE, over_all, over_permuted, q_values
from probes.probe_set import ACTIVATIONS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION, Cell

PERMUTED_QUESTION = "better than permuted labels"
POSITION_QUESTION = "beyond position and mean training map"


@dataclass(frozen=True, slots=True)
class Discoveries:
    """One question, and its answer for every task, layer and step of the trained network."""

    question: str
    cells: tuple[tuple[str, Cell], ...]
    """(task, cell)."""
    gain: Array
    """Mean over images in the task's headline metric, above zero where the cell is better."""
    p: Array
    q: Array

    @property
    def held(self) -> NDArray[np.bool_]:
        """Where the answer is yes at a false discovery rate of 5 %."""
        held: NDArray[np.bool_] = (self.gain > 0) & (self.q <= RATE)
        return held

    @property
    def comparisons(self) -> int:
        """Over how many comparisons the rate is controlled."""
        return int(np.isfinite(self.p).sum())


def discoveries(results: Results) -> list[Discoveries]:
    """Test cells against permuted labels, and cells with position against position alone."""
    tasks, answers = list(results.tasks.values()), []
    # A single permutation, as with very few training items, has no spread to test against.
    if all(len({cell.draw for cell in _trained(task, PERMUTED)}) > 1 for task in tasks):
        answers.append(_answer(PERMUTED_QUESTION, tasks, _over_permuted))
    maps = [task for task in tasks if task.where(network=POSITION)]
    if maps:
        answers.append(_answer(POSITION_QUESTION, maps, _over_position))
    return answers


_Gains = tuple[list[Cell], Difference]


def _answer(
    question: str, tasks: Iterable[TaskResults], gains_of: Callable[[TaskResults], _Gains]
) -> Discoveries:
    cells, gains = [], []
    for task in tasks:
        task_cells, gain = gains_of(task)
        cells += [(task.name, cell) for cell in task_cells]
        gains.append(gain)
    p = np.concatenate([gain.p for gain in gains])
    means = np.concatenate([gain.mean for gain in gains])
    return Discoveries(question, tuple(cells), means, p, q_values(p))


def _over_permuted(task: TaskResults) -> _Gains:
    scores, cells = _signed(task), _trained(task, ACTIVATIONS)
    draws: dict[tuple[str, int], list[Array]] = {}
    for cell in _trained(task, PERMUTED):
        draws.setdefault((cell.layer, cell.step), []).append(scores[cell])
    permuted = np.array([draws[cell.layer, cell.step] for cell in cells])
    return cells, over_permuted(np.array([scores[cell] for cell in cells]), permuted)


def _over_position(task: TaskResults) -> _Gains:
    scores, cells = _signed(task), _trained(task, WITH_POSITION)
    position, (mean_map,) = task.best(network=POSITION), task.where(network=MEAN_MAP)
    assert position is not None
    both = np.array([scores[cell] for cell in cells])
    return cells, over_all(
        [paired_difference(both, scores[baseline]) for baseline in (position, mean_map)]
    )


def _signed(task: TaskResults) -> dict[Cell, Array]:
    """Headline scores per cell, with the sign that makes higher better."""
    return dict(zip(task.cells, task.sign() * task.scores[:, 0], strict=True))


def _trained(task: TaskResults, probe: str) -> list[Cell]:
    return [cell for cell in task.cells if (cell.network, cell.probe) == (TRAINED, probe)]


def at_rate(comparisons: int) -> str:
    """The correction for so many comparisons, in words."""
    rate = f"a false discovery rate of {100 * RATE:.0f} %"
    return f"at {rate} (Benjamini-Hochberg over {comparisons} comparisons)"
