"""From which step on a scene property can be read, and when decoded images match the probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.comparisons import is_labelled
from bench.runs.results import Results, TaskResults
from bench.steps import numbers_of
from extract.networks import DECODED, DECODED_LAYERS, TRAINED
from probes.bootstrap import LEVEL, Array, Score, effect_of, resampled_means, resampling_weights
from probes.probe_set import ACTIVATIONS, MEAN_MAP, POSITION

EMERGED = 0.9
"""Share of the final gain from which on a scene property counts as emerged."""

TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclass(frozen=True, slots=True)
class Emergence:
    """The share of the final gain over a baseline that the best layer has at each step."""

    task: str
    layer: str
    over: str
    """The baseline: ``position``, or ``mean map`` for a task of whole images."""
    steps: tuple[int, ...]
    """Counted from 0."""
    final: Score
    """The gain at the last step."""
    share: tuple[Score, ...]
    """Per step; empty unless the interval of the final gain lies above zero."""
    emerged: Score | None
    """The probed step (counted from 1) from which on the share stays at 90 % or more."""

    @property
    def onset(self) -> Onset | None:
        """The step from which on the share stays there; None without a final gain."""
        return None if self.emerged is None else Onset(self.emerged, numbers_of(self.steps))


@dataclass(frozen=True, slots=True)
class Beginning:
    """The steps among which a condition begins to hold; those that were not tested are unknown."""

    before: int
    """The last tested step before it holds, counted from 1; 0 if there is none."""
    at: int
    """The first tested step from which on it holds; one after all of them if never."""
    never: bool

    def __str__(self) -> str:
        if self.never:
            return "never"
        first = self.before + 1
        if first == self.at:
            return f"step {self.at}"
        if first + 1 == self.at:
            return f"step {first} or {self.at}"
        return f"one of steps {first} to {self.at}"


@dataclass(frozen=True, slots=True)
class Onset:
    """A probed step from which on a condition holds."""

    step: Score
    """Counted from 1, with its 95 % interval; more than all of ``numbers`` means never."""
    numbers: tuple[int, ...]
    """The steps at which the condition was tested, counted from 1."""

    @property
    def beginning(self) -> Beginning:
        """The steps among which the condition begins to hold."""
        return self._beginning(self.step.mean)

    def _beginning(self, number: float) -> Beginning:
        before = max((tested for tested in self.numbers if tested < number), default=0)
        return Beginning(before, int(number), number > self.numbers[-1])

    def words(self, never: str = "never", end: str = "never") -> str:
        """Name the steps with their interval, to be put after *from* or *at*.

        ``never`` stands for a condition that does not hold, ``end`` for the same in the interval.
        """
        low, high = self._beginning(self.step.low), self._beginning(self.step.high)
        first = end if low.never else low.before + 1
        last = end if high.never else high.at
        return f"{never if self.beginning.never else self.beginning} [{first}, {last}]"


def emergence(results: Results, task: TaskResults) -> Emergence:
    """Gain over position of activations with position, in the best layer of the last step.

    For a task of whole images, the activations' gain over the mean training label.
    """
    layer, over, gains = gains_along(results.steps, task)
    final = effect_of(gains[-1])
    if not final.low > 0:
        return Emergence(task.name, layer, over, results.steps, final, (), None)
    share, shares = shares_of(gains)
    spans = np.nanquantile(shares, TAILS, axis=1).T
    scores = tuple(
        Score(float(mean), float(low), float(high))
        for mean, (low, high) in zip(share, spans, strict=True)
    )
    emerged = onset(share >= EMERGED, shares >= EMERGED, list(numbers_of(results.steps)))
    return Emergence(task.name, layer, over, results.steps, final, scores, emerged)


def gains_along(steps: Sequence[int], task: TaskResults) -> tuple[str, str, Array]:
    """The best layer of the last step, the baseline, and the gains over it, steps x images."""
    best = task.best(network=TRAINED, step=steps[-1], probe=task.gain_probe)
    baseline = task.best(network=POSITION) or task.where(network=MEAN_MAP)[0]
    assert best is not None
    curve = [
        task.score(cell)
        for step in steps
        for cell in task.where(network=TRAINED, step=step, probe=task.gain_probe, layer=best.layer)
    ]
    return best.layer, baseline.network, task.sign() * (np.array(curve) - task.score(baseline))


def shares_of(gains: Array) -> tuple[Array, Array]:
    """The share of the final gain at every step, and the same in every draw, steps x draws."""
    drawn = resampled_means(gains, resampling_weights(gains.shape[1]))
    # The share of a final gain of zero or below is undefined.
    shares = drawn / np.where(drawn[-1] > 0, drawn[-1], np.nan)
    return np.nanmean(gains, axis=1) / np.nanmean(gains[-1]), shares


def onset(holds: NDArray[np.bool_], drawn: NDArray[np.bool_], numbers: Sequence[int]) -> Score:
    """The first of the probed steps ``numbers`` from which on a condition holds, with its interval.

    ``holds`` has one value per step, ``drawn`` is steps x bootstrap draws. One more than the last
    step means never.
    """
    onsets = [_first_lasting(column, numbers) for column in drawn.T]
    # The ends of the interval are steps that were drawn, so quantiles are not interpolated.
    low, high = np.quantile(onsets, TAILS, method="inverted_cdf")
    return Score(float(_first_lasting(holds, numbers)), float(low), float(high))


def _first_lasting(holds: Iterable[bool], numbers: Sequence[int]) -> int:
    """The number of the step after the last failure."""
    failures = [index for index, value in enumerate(holds) if not value]
    return [*numbers, numbers[-1] + 1][failures[-1] + 1 if failures else 0]


def catching_up(results: Results, task: TaskResults, layer: str) -> Onset | None:
    """From which step on the labeler on a decoded image scores at least as high as the probe.

    ``layer`` is one of DECODED_LAYERS. None where it was not recorded. The step whose decoded image
    is the labelled one is left out.
    """
    steps = [step for step in results.steps if not is_labelled(results, step)]
    gains = []
    for step in steps:
        decoded = task.where(network=DECODED, step=step, layer=layer)
        best = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
        if not decoded or best is None:
            return None
        gains.append(task.sign() * (task.score(decoded[0]) - task.score(best)))
    if not gains:
        return None
    numbers = numbers_of(steps)
    means = np.nanmean(gains, axis=1)
    drawn = resampled_means(np.array(gains), resampling_weights(len(gains[0])))
    return Onset(onset(means >= 0, drawn >= 0, numbers), numbers)


def catching_up_line(results: Results, task: str, onsets: Mapping[str, Onset]) -> str:
    """A sentence that names the step at which each kind of decoded image matches the probe."""
    names = dict(zip(DECODED_LAYERS, ("decoded", "predicted clean"), strict=True))
    parts = [
        f"the {names[layer]} image catches up with the probe {_when(results, onset)}"
        for layer, onset in onsets.items()
    ]
    return f"{task}: {'; '.join(parts)}"


def _when(results: Results, onset: Onset) -> str:
    at = "" if onset.beginning.never else "at "
    if is_labelled(results, results.steps[-1]):
        # The image decoded after the last step is the labelled one and matches by definition.
        return at + onset.words("not before the last step", "last")
    return at + onset.words()
