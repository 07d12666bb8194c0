"""Depth and the salient object are linearly readable by step 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare step 5's best layer with controls that would score as well if nothing were readable.

    Its activations must exceed probes of permuted labels, and its activations with position must
    exceed position alone and the mean training map, each by 0.01. Depth grows towards the horizon
    and objects lie near the middle, so a gain over permuted labels alone would not be enough.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import over_networks, paired

    (results,) = runs
    for task in cells.tasks_of(results, ("saliency", "depth")):
        step = cells.early_step(results)
        best = cells.best(task, step)
        scores, controls = cells.scores_of(task, best), cells.permuted(task, best)
        yield over_networks(
            f"{task.name}: {best.layer} over permuted labels", scores, controls, LEAST
        )
        both = cells.best(task, step, task.gain_probe)
        for name, baseline in cells.without_activations(task).items():
            what = f"{task.name}: {both.layer} with position over {name}"
            yield paired(what, cells.scores_of(task, both), baseline, LEAST)


CLAIM = Claim(
    source="arXiv 2306.05720",
    sentence="Linear probes read depth and the salient object from activations by step 5 of 15.",
    test=_effects,
)
