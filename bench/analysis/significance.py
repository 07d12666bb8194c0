"""Questions asked of every cell of a run at once, answered at a false discovery rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.runs.results import Results, TaskResults
from extract.networks import TRAINED
from probes.bootstrap import Array, Difference, paired_difference
from probes.multiple_testing import RATE, over_permuted, over_strongest, q_values
from probes.probe_set import ACTIVATIONS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION, Cell

PERMUTED_QUESTION, POSITION_QUESTION = (
    "better than permuted labels",
    "beyond position and mean training map",
)


@dataclass(frozen=True, slots=True)
class Discoveries:
    """One question, and its answer for every task, layer and step of the trained network."""

    question: str
    cells: tuple[tuple[str, Cell], ...]
    """(task, cell)."""
    gain: Array
    """Mean over images, above zero where the cell is better; in the headline metric of its task."""
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
    """Is a cell better than permuted labels? Does it, with position, tell more than position alone?"""
    tasks = list(results.tasks.values())
    found = []
    # Of very few training items, too few permutations: one draw has no spread to stand out of.
    if all(len({cell.draw for cell in _trained(task, PERMUTED)}) > 1 for task in tasks):
        found.append(_asked(PERMUTED_QUESTION, tasks, _over_permuted))
    # Whole images have no position to be beyond.
    maps = [task for task in tasks if task.where(network=POSITION)]
    if maps:
        found.append(_asked(POSITION_QUESTION, maps, _over_places))
    return found


_Gains = tuple[list[Cell], Difference]


def _asked(
    question: str, tasks: Iterable[TaskResults], gains_of: Callable[[TaskResults], _Gains]
) -> Discoveries:
    cells, gains = [], []
    for task in tasks:
        mine, gain = gains_of(task)
        cells += [(task.name, cell) for cell in mine]
        gains.append(gain)
    p = np.concatenate([gain.p for gain in gains])
    return Discoveries(
        question, tuple(cells), np.concatenate([gain.mean for gain in gains]), p, q_values(p)
    )


def _over_permuted(task: TaskResults) -> _Gains:
    scores, cells = _signed(task), _trained(task, ACTIVATIONS)
    draws: dict[tuple[str, int], list[Array]] = {}
    for cell in _trained(task, PERMUTED):
        draws.setdefault((cell.layer, cell.step), []).append(scores[cell])
    baselines = np.array([draws[cell.layer, cell.step] for cell in cells])
    return cells, over_permuted(np.array([scores[cell] for cell in cells]), baselines)


def _over_places(task: TaskResults) -> _Gains:
    scores, cells = _signed(task), _trained(task, WITH_POSITION)
    ours, position = np.array([scores[cell] for cell in cells]), task.best(network=POSITION)
    assert position is not None
    (mean_map,) = task.where(network=MEAN_MAP)
    return cells, over_strongest(
        [paired_difference(ours, scores[baseline]) for baseline in (position, mean_map)]
    )


def _signed(task: TaskResults) -> dict[Cell, Array]:
    """Headline scores per cell, turned so that higher is better."""
    sign = task.sign()
    return dict(zip(task.cells, sign * task.scores[:, 0], strict=True))


def _trained(task: TaskResults, probe: str) -> list[Cell]:
    return [cell for cell in task.cells if (cell.network, cell.probe) == (TRAINED, probe)]


def at_rate(comparisons: int) -> str:
    """What was done about so many comparisons at once."""
    return f"at a false discovery rate of {100 * RATE:.0f} % (Benjamini-Hochberg over {comparisons} comparisons)"
