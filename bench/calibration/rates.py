"""How often intervals miss and tests raise a false alarm, where the truth is known: both should do so in 5 %.

Three kinds of trial, each made of cells that are independent of each other:

  coverage      per-image scores of a cell are taken as the whole population; so many images are drawn from it, and
                the interval should hold the population's mean
  exchange      two probes of permuted labels swap their scores of each drawn image by the toss of a coin, so neither
                is better; the paired test should say so
  no knowledge  other images' labels are dealt to real activations and the run's whole pipeline fits and scores probes
                (null_data.py); no cell should be better than its permuted labels, or than position and mean map

Only gains are claimed, so the last kind counts gains: at most 2.5 % by a two-sided test at 5 %. Fewer is expected where
what was learned from noise makes a probe worse than its rival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from bench.calibration.null_data import Scores
from bench.errors import UserError
from bench.runs.results import Results
from extract.networks import TRAINED
from probes.bootstrap import DRAWS, LEVEL, intervals, paired_difference
from probes.multiple_testing import over_permuted, over_strongest
from probes.probe_set import ACTIVATIONS, PERMUTED, POSITION

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something was wrong that should be wrong in 5 % of cells (or in at most so many)."""

    trial: str
    what: str
    wrong: int
    cells: int
    nominal: float = 1 - LEVEL
    at_most: bool = False
    """Whether fewer is right too."""
    judged: bool = True
    """False where the rate stands for comparison, and nothing is claimed."""

    @property
    def rate(self) -> float:
        """The share that was wrong."""
        return self.wrong / self.cells

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The exact binomial interval of the rate (Clopper and Pearson 1934)."""
        span = binomtest(self.wrong, self.cells).proportion_ci(level, method="exact")
        return float(span.low), float(span.high)

    def is_right(self, level: float = LEVEL) -> bool:
        """Whether the interval holds the nominal rate, or lies below it where fewer is right."""
        low, high = self.interval(level)
        return low <= self.nominal and (self.at_most or self.nominal <= high)


@dataclass(frozen=True, slots=True)
class Population:
    """Per-image scores of finished cells, higher is better; cells x images without gaps."""

    activations: Array
    permuted: Array
    """Of one draw per cell."""
    other_permuted: Array
    """Of another draw."""
    position: Array
    """The rival beside each cell."""


def population(results: Results) -> Population:
    """Headline scores of the trained network's cells, of tasks of maps. Raises UserError when there are none."""
    parts: list[list[Array]] = [[], [], [], []]
    for task in results.tasks.values():
        sign = task.sign()
        rows = dict(zip(task.cells, sign * task.scores[:, 0], strict=True))
        position = task.best(network=POSITION)
        if position is None:
            # One label of a whole image has no place in it, and so no rival that reads the place alone.
            continue
        draws: dict[tuple[str, int], list[Array]] = {}
        for cell, row in rows.items():
            if (cell.network, cell.probe) == (TRAINED, PERMUTED):
                draws.setdefault((cell.layer, cell.step), []).append(row)
        for cell, row in rows.items():
            if (cell.network, cell.probe) == (TRAINED, ACTIVATIONS):
                first, second = draws[cell.layer, cell.step][:2]
                for part, values in zip(parts, (row, first, second, rows[position]), strict=True):
                    part.append(values)
    if not parts[0]:
        raise UserError(
            f"{results.path} has no task of maps, whose scores could be drawn from; give another --run"
        )
    tables = [np.array(part) for part in parts]
    # An image without a score in one table is left out of all of its row's: rows keep their pairs.
    known = np.isfinite(tables).all((0, 1))
    return Population(*(table[:, known] for table in tables))


def population_of_nulls(scores: Scores) -> Population:
    """The same from fresh probes, where no run is given."""
    return Population(scores.ours, scores.permuted[:, 0], scores.permuted[:, 1], scores.position)


def rates(
    source: Population, nulls: Scores, cells: int, draws: int = DRAWS, seed: int = 0
) -> list[Rate]:
    """Every trial, with ``cells`` cells each."""
    rng = np.random.default_rng(seed)
    pairs = source.activations - source.position
    found = [
        _coverage("scores of activations", source.activations, cells, draws, rng),
        _coverage("scores of permuted labels", source.permuted, cells, draws, rng),
        _coverage("differences from position alone", pairs, cells, draws, rng),
        *_exchange(source, cells, draws, rng),
    ]
    trial, count = "no knowledge", len(nulls.ours)
    test = over_permuted(nulls.ours, nulls.permuted, draws)
    alarm, better = test.p <= 1 - LEVEL, test.mean > 0
    images = paired_difference(nulls.ours, nulls.permuted.mean(1), draws)
    sites = over_strongest(
        [
            paired_difference(nulls.with_position, baseline, draws)
            for baseline in (nulls.position, nulls.mean_map)
        ]
    )
    beyond = (sites.p <= 1 - LEVEL) & (sites.mean > 0)
    one_sided = (1 - LEVEL) / 2
    return [
        *found,
        Rate(
            trial,
            "better than permuted labels",
            int((alarm & better).sum()),
            count,
            one_sided,
            at_most=True,
        ),
        Rate(
            trial,
            "beyond position and mean training map",
            int(beyond.sum()),
            count,
            one_sided,
            at_most=True,
        ),
        Rate(trial, "unlike permuted labels", int(alarm.sum()), count),
        Rate(
            trial,
            "the same, over images only (not used)",
            int((images.p <= 1 - LEVEL).sum()),
            count,
            judged=False,
        ),
    ]


def family_level(found: Sequence[Rate]) -> float:
    """The level of each interval at which all judged rates together are found right in 95 % of suites (Bonferroni)."""
    return 1 - (1 - LEVEL) / sum(rate.judged for rate in found)


def _coverage(what: str, rows: Array, cells: int, draws: int, rng: np.random.Generator) -> Rate:
    truth = rows.mean(1)[np.arange(cells) % len(rows)]
    found = intervals(_sampled(rows, cells, rng), draws)
    return Rate("coverage", what, int(((truth < found.low) | (truth > found.high)).sum()), cells)


def _exchange(source: Population, cells: int, draws: int, rng: np.random.Generator) -> list[Rate]:
    gaps = source.permuted - source.other_permuted
    # Where a control is a constant mask, both draws are the same probe and there is nothing to tell apart.
    gaps = gaps[(gaps != 0).mean(1) > 0.5]
    if not len(gaps):
        return []
    gaps = _sampled(gaps, cells, rng) * rng.choice([-1.0, 1.0], (cells, gaps.shape[1]))
    wrong = paired_difference(gaps, np.zeros(gaps.shape[1]), draws).p <= 1 - LEVEL
    return [Rate("exchange", "paired differences of two permuted probes", int(wrong.sum()), cells)]


def _sampled(rows: Array, cells: int, rng: np.random.Generator) -> Array:
    """Fresh images from each row in turn, with replacement."""
    chosen = rows[np.arange(cells) % len(rows)]
    return np.take_along_axis(chosen, rng.integers(0, rows.shape[1], chosen.shape), axis=1)
