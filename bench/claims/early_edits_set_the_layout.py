"""Early edits change the layout, late ones do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare the chosen edit at early steps with the same edit in the last third of the steps.

    Dice with the shifted mask must be higher for the early one, by 0.01. What the paper says of
    style in the middle steps is not tested: no edit of style is recorded.
    """
    from bench.verdicts.edits import edited
    from bench.verdicts.effect import paired

    (results,) = runs
    edit = edited(results, "saliency")
    what = f"{edit.name} early over late: Dice with the shifted mask"
    yield paired(what, edit.scores, edit.control("late"), LEAST)


CLAIM = Claim(
    source="arXiv 2504.15473",
    sentence="Composition can be controlled in early steps and no longer in the last ones.",
    test=_effects,
    kind="interventions",
)
