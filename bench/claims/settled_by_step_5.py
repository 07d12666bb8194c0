"""After step 5 the probes improve little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect

SHARE = 0.9
"""Of the final gain, from which on the project calls a property emerged."""


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Test whether step 5 has 90 % of the last step's gain over position alone.

    The layer is the last step's best, with position. The effect is, per image, the gain at step 5
    minus 0.9 times the final gain, which is above zero where 90 % is reached; it is linear, so the
    paired test applies. There must also be a final gain of 0.01.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import paired

    (results,) = runs
    for task in cells.tasks_of(results, ("saliency", "depth")):
        step, probe = cells.early_step(results), task.gain_probe
        last = cells.best(task, cells.last_step(results), probe)
        early = cells.best(task, step, probe, layers=[last.layer])
        name, floor = next(iter(cells.without_activations(task).items()))
        final = cells.scores_of(task, last) - floor
        gain = cells.scores_of(task, early) - floor
        stem = f"{task.name}: {last.layer} with position"
        yield paired(f"{stem} over {name} at the last step", final + floor, floor, LEAST)
        yield paired(f"{stem}, gain at step 5 over 90 % of the final one", gain, SHARE * final)


CLAIM = Claim(
    source="arXiv 2306.05720",
    sentence="Differences between steps vanish after step 5.",
    test=_effects,
)
