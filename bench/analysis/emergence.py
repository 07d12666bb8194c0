"""From which step on something is known, and when the trained network's probes catch up with what else was watched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.comparisons import is_labelled
from bench.runs.results import Results, TaskResults
from extract.networks import DECODED, DECODED_LAYERS, TRAINED
from probes.bootstrap import LEVEL, Score, resampled_means, resampling_weights, score_of
from probes.probe_set import ACTIVATIONS, MEAN_MAP, POSITION, WITH_POSITION

EMERGED = 0.9
"""Share of the final gain from which on a scene property counts as emerged."""

TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


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


@dataclass(frozen=True, slots=True)
class Onset:
    """A probed step from which on something holds."""

    step: Score
    """Counted from 1, with its 95 % interval; more than all of ``numbers`` stands for never."""
    numbers: tuple[int, ...]
    """The steps that were looked at, counted from 1."""


def emergence(results: Results, task: TaskResults) -> Emergence:
    """Gain over position of activations with position, in the layer that is best at the last step.

    Whole images have no position: there it is the activations' gain over the mean training label.
    """
    last = results.steps[-1]
    probe = WITH_POSITION if task.where(probe=WITH_POSITION) else ACTIVATIONS
    best = task.best(network=TRAINED, step=last, probe=probe)
    floor = task.best(network=POSITION) or task.where(network=MEAN_MAP)[0]
    assert best is not None
    sign = task.sign()
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
    scores = tuple(
        Score(float(mean), float(low), float(high))
        for mean, (low, high) in zip(share, spans, strict=True)
    )
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
        words = (
            f"between step {first - 1} and {found.mean:.0f}"
            if first > 1
            else f"step {found.mean:.0f} or before"
        )
    low = found.low if found.low > numbers[-1] else earliest(found.low)
    return f"{words} [{shown(low)}, {shown(found.high)}]"


def catching_up(results: Results, task: TaskResults, layer: str) -> Onset | None:
    """From which step on the decoded image says at least what the probe says; None where it was not watched.

    Never, where it does so at none of the steps whose image is not the labelled one.
    """
    sign = task.sign()
    steps = [step for step in results.steps if not is_labelled(results, step)]
    lead = []
    for step in steps:
        shown = task.where(network=DECODED, step=step, layer=layer)
        probed = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
        if not shown or probed is None:
            return None
        lead.append(sign * (task.score(shown[0]) - task.score(probed)))
    if not lead:
        return None
    gains, numbers = np.array(lead), [step + 1 for step in steps]
    drawn = resampled_means(gains, resampling_weights(gains.shape[1]))
    return Onset(onset(np.nanmean(gains, axis=1) >= 0, drawn >= 0, numbers), tuple(numbers))


def catching_up_line(results: Results, task: str, found: Mapping[str, Onset]) -> str:
    """When the image that is coming out of the noise shows what the probe has read already."""
    names = dict(zip(DECODED_LAYERS, ("decoded", "predicted"), strict=True))
    parts = [
        f"the {names[layer]} image catches up with the probe {_when(results, step)}"
        for layer, step in found.items()
    ]
    return f"{task}: {'; '.join(parts)}"


def _when(results: Results, found: Onset) -> str:
    words, opening, span = onset_words(found.step, found.numbers).partition(" [")
    if is_labelled(results, results.steps[-1]):
        # After that step it does by definition.
        words, span = (
            words.replace("never", "not before the last step"),
            span.replace("never", "last"),
        )
    return f"{'at ' if words.startswith('step') else ''}{words}{opening}{span}"
