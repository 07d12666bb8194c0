"""What a run found: the comparisons that a claim needs, each paired over pictures, and when the knowledge emerges.

Layers are chosen by cross-validated loss on training pictures; test pictures only score them. A difference is always
written so that above zero means the first is better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.runs.results import Results, TaskResults
from extract.networks import INPUT, TRAINED
from probes.bootstrap import LEVEL, intervals, paired_difference, resampled_means, resampling_weights
from probes.multiple_testing import RATE, over_permuted, q_values
from probes.probe_set import ACTIVATIONS, ALWAYS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION, Cell

EARLY_STEP = 4
"""Step 5, by which the paper finds that the scene is laid out."""
EMERGED = 0.9
"""Share of the final gain from which on a scene property counts as emerged."""
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)

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
    final: Score
    """The gain at the last step."""
    share: tuple[Score, ...]
    """At every step; empty where the final gain's interval does not lie above zero: of nothing there is no share."""
    emerged: Score | None
    """The probed step (counted from 1) from which on the share stays at 90 % or more; None with no share."""


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
    """A cell against a rival's scores per picture, which have one row, or one per draw of what is drawn by chance.

    Draws are permutations of the labels or seeds of a network: the cell must stand out among them too.
    """
    sign = 1.0 if task.higher_is_better[0] else -1.0
    mine = task.score(ours)
    if len(np.atleast_2d(rival)) > 1:
        gain = over_permuted(sign * mine[None], sign * rival[None])
    else:
        gain = paired_difference(sign * mine, sign * rival.reshape(-1))
    score = Score(float(gain.mean[0]), float(gain.low[0]), float(gain.high[0]))
    means = float(np.nanmean(mine)), float(np.nanmean(rival))
    return Comparison(task.name, step, what, ours.layer, theirs, *means, score, float(gain.p[0]), np.nan)


def _at_step(results: Results, task: TaskResults, step: int) -> Iterator[Comparison]:
    entry = partial(against, task, step)
    ours = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
    assert ours is not None
    random = [task.best(network=name, step=step, probe=ACTIVATIONS) for name in results.random_networks]
    if random:
        rival = np.array([task.score(cell) for cell in random if cell])
        layers = ", ".join(dict.fromkeys(cell.layer for cell in random if cell))
        yield entry(f"random weights, same latents{of_seeds(len(rival))}", ours, layers, rival)
    permuted = task.where(network=TRAINED, step=step, probe=PERMUTED, layer=ours.layer)
    if permuted:
        what = f"permuted labels{': this one draw' if len(permuted) == 1 else ''}"
        yield entry(what, ours, ours.layer, np.array([task.score(cell) for cell in permuted]))
    for cell in task.where(network=INPUT, step=step, probe=ACTIVATIONS):
        yield entry("the latent itself", ours, cell.layer, task.score(cell))
    both, position = task.best(network=TRAINED, step=step, probe=WITH_POSITION), task.best(network=POSITION)
    if both is not None and position is not None:
        yield entry("with position: position alone", both, position.layer, task.score(position))
    what = "with position: mean training map" if both is not None else "mean training label"
    for cell in task.where(network=MEAN_MAP):
        yield entry(what, both or ours, cell.layer, task.score(cell))


def of_seeds(networks: int) -> str:
    """What a comparison with networks of random weights must add where their spread is not known."""
    return ": this one network" if networks == 1 else ""


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
    final = score_of(gains[-1])
    if not final.low > 0:
        return Emergence(task.name, best.layer, floor.network, results.steps, final, (), None)
    drawn = resampled_means(gains, resampling_weights(gains.shape[1]))
    # Of a final gain of zero or below no share is known.
    shares = drawn / np.where(drawn[-1] > 0, drawn[-1], np.nan)
    share = np.nanmean(gains, axis=1) / np.nanmean(gains[-1])
    spans = np.nanquantile(shares, TAILS, axis=1).T
    scores = tuple(Score(float(mean), float(low), float(high)) for mean, (low, high) in zip(share, spans, strict=True))
    emerged = onset(share >= EMERGED, shares >= EMERGED, [step + 1 for step in results.steps])
    return Emergence(task.name, best.layer, floor.network, results.steps, final, scores, emerged)


def onset(holds: NDArray[np.bool_], drawn: NDArray[np.bool_], numbers: Sequence[int]) -> Score:
    """The first of the probed steps ``numbers`` from which on something holds, with its interval over draws.

    ``holds`` has one value per step, ``drawn`` steps x draws. One more than the last step stands for never.
    """
    found = [_from_which_on(column, numbers) for column in drawn.T]
    # Steps are counted: the ends of the interval are steps that were drawn.
    low, high = np.quantile(found, TAILS, method="inverted_cdf")
    return Score(float(_from_which_on(holds, numbers)), float(low), float(high))


def _from_which_on(holds: Iterable[bool], numbers: Sequence[int]) -> int:
    fails = [index for index, value in enumerate(holds) if not value]
    return [*numbers, numbers[-1] + 1][fails[-1] + 1 if fails else 0]


def onset_words(found: Score, numbers: Sequence[int]) -> str:
    """An onset as it is printed: between two probed steps where none in between was looked at."""

    def earliest(number: float) -> int:
        return max((probed for probed in numbers if probed < number), default=0) + 1

    def shown(number: float) -> str:
        return "never" if number > numbers[-1] else f"{number:.0f}"

    first = earliest(found.mean)
    if found.mean > numbers[-1]:
        words = "never"
    elif first == found.mean:
        words = f"step {first}"
    else:
        words = f"between step {first - 1} and {found.mean:.0f}" if first > 1 else f"step {found.mean:.0f} or before"
    low = found.low if found.low > numbers[-1] else earliest(found.low)
    return f"{words} [{shown(low)}, {shown(found.high)}]"


def curve(results: Results, task: TaskResults, network: str, probe: str) -> list[tuple[int, str, Score]]:
    """(step, layer, score) of the layer that is best at each step, for one network and kind of probe."""
    points = []
    for step in results.steps:
        cell = task.best(network=network, step=step, probe=probe)
        if cell is not None:
            points.append((step, cell.layer, score_of(task.score(cell))))
    return points


def family_curve(results: Results, task: TaskResults, networks: Sequence[str]) -> list[tuple[int, Score]]:
    """(step, score) of networks that differ by their seed: each one's best layer, averaged per picture."""
    points = []
    for step in results.steps:
        cells = [task.best(network=network, step=step, probe=ACTIVATIONS) for network in networks]
        scores = [task.score(cell) for cell in cells if cell]
        if scores:
            points.append((step, score_of(np.mean(scores, axis=0))))
    return points


def constant(task: TaskResults, network: str) -> tuple[str, Score] | None:
    """(layer, score) of a baseline that does not depend on the step."""
    cells = task.where(network=network, step=ALWAYS)
    cell = task.best(network=network) or (cells[-1] if cells else None)
    return (cell.layer, score_of(task.score(cell))) if cell else None
