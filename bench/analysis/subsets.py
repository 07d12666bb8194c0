"""The best layer's scores on subsets of the test images: by object size, by likeness of prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.runs.results import Results, TaskResults
from extract.networks import TRAINED
from probes.bootstrap import Array, Score, score_of
from probes.object_size import by_area
from probes.probe_set import ACTIVATIONS

_FEWEST = 2
"""Images of which a mean has an interval."""


@dataclass(frozen=True, slots=True)
class SizeScore:
    """The score on test images whose objects are of one size."""

    name: str
    low_area: float
    high_area: float
    """Shares of the image's area."""
    score: Score


@dataclass(frozen=True, slots=True)
class PromptScore:
    """The score on test images whose prompts are as like the training prompts."""

    name: str
    items: int
    score: Score


@dataclass(frozen=True, slots=True)
class Subsets:
    """The best layer at the last step, and its score on each subset."""

    layer: str
    sizes: tuple[SizeScore, ...]
    prompts: tuple[PromptScore, ...]
    """Empty where no test prompt is like a training prompt, or where that was not recorded."""


def subsets(results: Results, task: TaskResults) -> Subsets | None:
    """The best layer's scores on every subset; None where nothing can be read."""
    best = task.best(network=TRAINED, step=results.steps[-1], probe=ACTIVATIONS)
    if best is None:
        return None
    scores = task.score(best)
    return Subsets(best.layer, _by_size(results, scores), _by_prompt(results, scores))


def _by_size(results: Results, scores: Array) -> tuple[SizeScore, ...]:
    sizes = []
    for stratum in by_area(scores[None], results.foreground):
        span = stratum.scores
        score = Score(float(span.mean[0]), float(span.low[0]), float(span.high[0]))
        low, high = float(stratum.low_area), float(stratum.high_area)
        sizes.append(SizeScore(stratum.name, low, high, score))
    return tuple(sizes)


def _by_prompt(results: Results, scores: Array) -> tuple[PromptScore, ...]:
    overlap = results.overlap
    if overlap is None or not (overlap.equal_items or overlap.near_items):
        return ()
    equal = np.isin(results.record.test_items, overlap.equal_items)
    near = np.isin(results.record.test_items, overlap.near_items)
    groups = {"equal": equal, "nearly equal": near, "neither": ~equal & ~near}
    return tuple(
        PromptScore(name, int(chosen.sum()), score_of(scores[chosen]))
        for name, chosen in groups.items()
        if chosen.sum() >= _FEWEST
    )
