"""Editing activations along the probe moves the object in the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare the edited images' masks with the mask that the edit aims at.

    The edit is the one that the experiment chose on training items. On test items its Dice with the
    shifted mask must exceed that of the unedited image, as the paper reports, and that of a random
    direction of the same norm, which the paper does not test and which alone shows that the
    direction matters; both by 0.01. Shifts are averaged per image.
    """
    from bench.verdicts.edits import edited
    from bench.verdicts.effect import paired

    (results,) = runs
    edit = edited(results, "saliency")
    for control, words in (("null", "no edit"), ("random", "a random direction")):
        what = f"{edit.name} over {words}: Dice with the shifted mask"
        yield paired(what, edit.scores, edit.control(control), LEAST)


CLAIM = Claim(
    source="arXiv 2306.05720",
    sentence="Editing activations by the saliency probe moves the object to the chosen place.",
    test=_effects,
    kind="interventions",
)
