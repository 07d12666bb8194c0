"""The layout can be read before the first step ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim, LacksError

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Test whether step 1's activations tell where the object will be.

    The best layer at step 1 with position must exceed, in Dice with the final mask, what is known
    without the network: position alone, the mean training mask, and the prompt with position; each
    by 0.01. The paper finds the layout by a sparse autoencoder's features and segments the final
    image; a linear probe of the mask asks the same of the same activations.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import paired
    from probes.probe_set import WITH_POSITION

    (results,) = runs
    (task,) = cells.tasks_of(results, ("saliency",))
    if 0 not in results.steps:
        raise LacksError("a run that probes step 1")
    both = cells.best(task, 0, WITH_POSITION)
    baselines = cells.without_activations(task)
    text = results.family("text")
    if not text:
        raise LacksError("a run with --baselines text")
    prompt = cells.best(task, 0, WITH_POSITION, text[0])
    baselines["the prompt with position"] = cells.scores_of(task, prompt)
    for name, scores in baselines.items():
        what = f"saliency, step 1: {both.layer} with position over {name}"
        yield paired(what, cells.scores_of(task, both), scores, LEAST)


CLAIM = Claim(
    source="arXiv 2504.15473",
    sentence="The final composition can be predicted before the first denoising step is complete.",
    test=_effects,
    options={"baselines": ("text",)},
)
