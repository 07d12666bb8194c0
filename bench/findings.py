"""What a run found: the comparisons that a claim needs, each paired over pictures, and when the knowledge emerges.

Layers are chosen by cross-validated loss on training pictures; test pictures only score them. A difference is always
written so that above zero means the first is better.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.results import Results, TaskResults
from extract.names import INPUT, TRAINED
from probes.bank import ACTIVATIONS, ALWAYS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION, Cell
from probes.bootstrap import LEVEL, intervals, paired_difference, resampled_means, resampling_weights
from probes.discovery import RATE, over_permuted, q_values

EARLY_STEP = 4
"""Step 5, by which the paper finds that the scene is laid out."""
EMERGED = 0.9
"""Share of the final gain from which on a scene property counts as emerged."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over pictures with its interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """As tables print it."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The trained model's probe against one rival, at one step."""

    task: str
    step: int
    what: str
    ours: str
    theirs: str
    our_score: float
    their_score: float
    gain: Score
    p: float
    """Two-sided, of no gain."""
    q: float
    """The false discovery rate, over all comparisons of the run, at which this one is called."""

    @property
    def holds(self) -> bool:
        """Whether there is a gain at a false discovery rate of 5 %."""
        return self.gain.mean > 0 and self.q <= RATE


@dataclass(frozen=True, slots=True)
class Emergence:
    """How much of the last step's gain over a baseline the best layer has at each step."""

    task: str
    layer: str
    over: str
    """The baseline: ``position``, or ``mean map`` where there is no position."""
    steps: tuple[int, ...]
    share: tuple[Score, ...]
    emerged: Score
    """The step (counted from 1) from which on the share stays at 90 % or more."""


def score_of(per_picture: Array) -> Score:
    """Mean and interval of per-picture scores; nan marks a picture for which the score is undefined."""
    span = intervals(per_picture[None])
    return Score(float(span.mean[0]), float(span.low[0]), float(span.high[0]))


def comparisons(results: Results) -> list[Comparison]:
    """Trained activations against every control, at step 5 and at the last step."""
    steps = dict.fromkeys(step for step in (EARLY_STEP, results.steps[-1]) if step in results.steps)
    found = [entry for task in results.tasks.values() for step in steps for entry in _at_step(results, task, step)]
    q = q_values(np.array([entry.p for entry in found]))
    return [replace(entry, q=float(value)) for entry, value in zip(found, q, strict=True)]


def against(task: TaskResults, step: int, what: str, ours: Cell, theirs: str, rival: Array) -> Comparison:
    """A cell against a rival's scores per picture, which have one row, or one per permutation of the labels."""
    sign = 1.0 if task.higher_is_better[0] else -1.0
    mine = task.score(ours)
    if rival.ndim == 2:
        gain = over_permuted(sign * mine[None], sign * rival[None])
    else:
        gain = paired_difference(sign * mine, sign * rival)
    score = Score(float(gain.mean[0]), float(gain.low[0]), float(gain.high[0]))
    means = float(np.nanmean(mine)), float(np.nanmean(rival))
    return Comparison(task.name, step, what, ours.layer, theirs, *means, score, float(gain.p[0]), np.nan)


def _at_step(results: Results, task: TaskResults, step: int) -> Iterator[Comparison]:
    entry = partial(against, task, step)
    ours = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
    assert ours is not None
    random = [task.best(network=name, step=step, probe=ACTIVATIONS) for name in results.random_networks]
    if random:
        rival = np.mean([task.score(cell) for cell in random if cell], axis=0)
        layers = ", ".join(dict.fromkeys(cell.layer for cell in random if cell))
        yield entry("random weights, same latents", ours, layers, rival)
    permuted = task.where(network=TRAINED, step=step, probe=PERMUTED, layer=ours.layer)
    yield entry("permuted labels", ours, ours.layer, np.array([task.score(cell) for cell in permuted]))
    for cell in task.where(network=INPUT, step=step, probe=ACTIVATIONS):
        yield entry("the latent itself", ours, cell.layer, task.score(cell))
    both, position = task.best(network=TRAINED, step=step, probe=WITH_POSITION), task.best(network=POSITION)
    if both is not None and position is not None:
        yield entry("with position: position alone", both, position.layer, task.score(position))
    what = "with position: mean training map" if both is not None else "mean training label"
    for cell in task.where(network=MEAN_MAP):
        yield entry(what, both or ours, cell.layer, task.score(cell))


def emergence(results: Results, task: TaskResults) -> Emergence:
    """Gain over position of activations with position, in the layer that is best at the last step.

    Whole pictures have no position: there it is the activations' gain over the mean training label.
    """
    last = results.steps[-1]
    probe = WITH_POSITION if task.where(probe=WITH_POSITION) else ACTIVATIONS
    best = task.best(network=TRAINED, step=last, probe=probe)
    floor = task.best(network=POSITION) or task.where(network=MEAN_MAP)[0]
    assert best is not None
    sign = 1.0 if task.higher_is_better[0] else -1.0
    curve = [
        task.score(cell)
        for step in results.steps
        for cell in task.where(network=TRAINED, step=step, probe=probe, layer=best.layer)
    ]
    gains = sign * (np.array(curve) - task.score(floor))
    drawn = resampled_means(gains, resampling_weights(gains.shape[1]))
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    with warnings.catch_warnings():
        # Of a final gain of zero no share is known; numpy says so at every turn, and the answer is nan or infinite.
        warnings.simplefilter("ignore", RuntimeWarning)
        shares = drawn / drawn[-1]
        share = np.nanmean(gains, axis=1) / np.nanmean(gains[-1])
        spans = np.nanquantile(shares, tails, axis=1).T
    numbers = np.array(results.steps) + 1
    emerged_draws = np.array([_emerged(column, numbers) for column in shares.T])
    emerged = Score(float(_emerged(share, numbers)), *(float(q) for q in np.quantile(emerged_draws, tails)))
    scores = tuple(Score(float(mean), float(low), float(high)) for mean, (low, high) in zip(share, spans, strict=True))
    return Emergence(task.name, best.layer, floor.network, results.steps, scores, emerged)


def _emerged(share: Array, numbers: NDArray[np.int_]) -> int:
    """The first step from which on the share stays at or above the mark."""
    below = np.flatnonzero(share < EMERGED)
    return int(numbers[below[-1] + 1]) if len(below) else int(numbers[0])


def curve(results: Results, task: TaskResults, network: str, probe: str) -> list[tuple[int, str, Score]]:
    """(step, layer, score) of the layer that is best at each step, for one network and kind of probe."""
    points = []
    for step in results.steps:
        cell = task.best(network=network, step=step, probe=probe)
        if cell is not None:
            points.append((step, cell.layer, score_of(task.score(cell))))
    return points


def constant(task: TaskResults, network: str) -> tuple[str, Score] | None:
    """(layer, score) of a baseline that does not depend on the step."""
    cells = task.where(network=network, step=ALWAYS)
    cell = task.best(network=network) or (cells[-1] if cells else None)
    return (cell.layer, score_of(task.score(cell))) if cell else None
