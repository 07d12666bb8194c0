"""Miss rates of intervals and false-alarm rates of tests on known truth: both should be 5 %.

Three kinds of trial, each of many independent cells:

  coverage      per-image scores of a cell are the population; as many images are drawn from it,
                and the interval should contain the population's mean
  exchange      two probes of permuted labels swap their scores of each drawn image at random, so
                neither is better, and the paired test should find no difference
  no knowledge  real activations get the labels of other images, and the run's whole pipeline fits
                and scores probes (null_data.py); no cell should beat its permuted labels, or the
                position and the mean map

Only gains are claimed, so the last kind counts gains: at most 2.5 % by a two-sided test at 5 %.
Fewer are expected where what a probe learned from noise makes it worse than its baseline, and in
tests over few images, which are stricter than their level (probes/bootstrap.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from bench.calibration.null_data import Scores
from bench.errors import UserError
from bench.runs.results import Results
from extract.networks import TRAINED
from probes.bootstrap import (
    DRAWS,
    LEVEL,
    Array,
    Interval,
    effects,
    intervals,
    paired_difference,
)
from probes.multiple_testing import over_permuted, over_strongest
from probes.probe_set import ACTIVATIONS, PERMUTED, POSITION
from probes.reaches import FEW

_ALPHA = 1 - LEVEL


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a procedure was wrong."""

    trial: str
    what: str
    wrong: int
    cells: int
    nominal: float = _ALPHA
    """The expected share of wrong cells."""
    at_most: bool = False
    """Whether a lower rate is right too."""
    judged: bool = True
    """False for a rate that is printed for comparison only."""

    @property
    def rate(self) -> float:
        """The share of wrong cells."""
        return self.wrong / self.cells

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the exact binomial interval of the rate (Clopper and Pearson 1934)."""
        span = binomtest(self.wrong, self.cells).proportion_ci(level, method="exact")
        return float(span.low), float(span.high)

    def is_right(self, level: float = LEVEL) -> bool:
        """Tell whether the interval contains the nominal rate, or may lie below it."""
        low, high = self.interval(level)
        return low <= self.nominal and (self.at_most or self.nominal <= high)


@dataclass(frozen=True, slots=True)
class Population:
    """Per-image scores of finished cells, cells x images without nan; higher is better."""

    activations: Array
    permuted: Array
    """Of one permutation per cell."""
    other_permuted: Array
    """Of another permutation."""
    position: Array
    """The baseline of each cell."""


def population(results: Results) -> Population:
    """Collect the scores of a run's cells of maps. Raises UserError when there are none."""
    parts: list[list[Array]] = [[], [], [], []]
    for task in results.tasks.values():
        rows = dict(zip(task.cells, task.sign() * task.scores[:, 0], strict=True))
        position = task.best(network=POSITION)
        if position is None:
            # A label of a whole image does not depend on position.
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
            f"{results.path} has no task of maps, whose scores could be drawn from; "
            "give another --run"
        )
    tables = [np.array(part) for part in parts]
    # An image without a score in one table is left out of all, which keeps rows paired.
    finite = np.isfinite(tables).all((0, 1))
    return Population(*(table[:, finite] for table in tables))


def population_of_nulls(scores: Scores) -> Population:
    """Collect the scores of null data sets, for use without a run."""
    return Population(
        scores.activations, scores.permuted[:, 0], scores.permuted[:, 1], scores.position
    )


def rates(
    source: Population, nulls: Scores, cells: int, draws: int = DRAWS, seed: int = 0
) -> list[Rate]:
    """Run every trial, with ``cells`` cells each."""
    rng = np.random.default_rng(seed)
    pairs = source.activations - source.position
    return [
        _coverage("scores of activations", source.activations, intervals, cells, draws, rng),
        _coverage("scores of permuted labels", source.permuted, intervals, cells, draws, rng),
        _coverage("differences from position alone", pairs, effects, cells, draws, rng),
        *_exchange(source, cells, draws, rng),
        *_no_knowledge(nulls, draws),
    ]


def family_level(rates: Sequence[Rate]) -> float:
    """Return the level per interval that gives 95 % to all judged rates together (Bonferroni)."""
    return 1 - _ALPHA / sum(rate.judged for rate in rates)


def _coverage(
    what: str,
    rows: Array,
    spans: Callable[[Array, int], Interval],
    cells: int,
    draws: int,
    rng: np.random.Generator,
) -> Rate:
    """How often the intervals of a procedure, as runs use it, leave out the true mean."""
    truth = rows.mean(1)[np.arange(cells) % len(rows)]
    span = spans(_sampled(rows, cells, rng), draws)
    return Rate("coverage", what, int(((truth < span.low) | (truth > span.high)).sum()), cells)


def _exchange(source: Population, cells: int, draws: int, rng: np.random.Generator) -> list[Rate]:
    gaps = source.permuted - source.other_permuted
    # Where a control is a constant mask, both permutations give the same probe.
    gaps = gaps[(gaps != 0).mean(1) > 0.5]
    if not len(gaps):
        return []
    gaps = _sampled(gaps, cells, rng) * rng.choice([-1.0, 1.0], (cells, gaps.shape[1]))
    wrong = paired_difference(gaps, np.zeros(gaps.shape[1]), draws).p <= _ALPHA
    what = "paired differences of two permuted probes"
    few = gaps.shape[1] < FEW
    return [Rate("exchange", what, int(wrong.sum()), cells, at_most=few)]


def _no_knowledge(nulls: Scores, draws: int) -> list[Rate]:
    trial, cells = "no knowledge", len(nulls.activations)
    test = over_permuted(nulls.activations, nulls.permuted, draws)
    images = paired_difference(nulls.activations, nulls.permuted.mean(1), draws)
    sites = over_strongest(
        [
            paired_difference(nulls.with_position, baseline, draws)
            for baseline in (nulls.position, nulls.mean_map)
        ]
    )
    few = nulls.activations.shape[1] < FEW
    unlike, over_images = test.p <= _ALPHA, int((images.p <= _ALPHA).sum())
    better = int((unlike & (test.mean > 0)).sum())
    beyond = int(((sites.p <= _ALPHA) & (sites.mean > 0)).sum())
    place = "beyond position and mean training map"
    return [
        Rate(trial, "better than permuted labels", better, cells, _ALPHA / 2, at_most=True),
        Rate(trial, place, beyond, cells, _ALPHA / 2, at_most=True),
        Rate(trial, "unlike permuted labels", int(unlike.sum()), cells, at_most=few),
        Rate(trial, "the same, over images only (not used)", over_images, cells, judged=False),
    ]


def _sampled(rows: Array, cells: int, rng: np.random.Generator) -> Array:
    """Draw images from each row in turn, with replacement."""
    chosen = rows[np.arange(cells) % len(rows)]
    return np.take_along_axis(chosen, rng.integers(0, rows.shape[1], chosen.shape), axis=1)
