"""The autoencoder's decoder holds little of the scene early, and much late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare the denoising network with the decoder, fed the partly denoised latents of a step.

    At each of steps 1, 3 and 5 that is probed, the network's best layer must exceed the decoder's
    by 0.01. The decoder's best layer at the last step must exceed its best layer at the first of
    these steps by 0.01.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import paired

    (results,) = runs
    for task in cells.tasks_of(results, ("saliency", "depth")):
        steps = [step for step in (0, 2, cells.early_step(results)) if step in results.steps]
        decoder = {
            step: cells.family(results, task, "vae", step)[0]
            for step in (*steps, cells.last_step(results))
        }
        for step in steps:
            best = cells.best(task, step)
            what = f"{task.name}, step {step + 1}: {best.layer} over the decoder"
            yield paired(what, cells.scores_of(task, best), decoder[step], LEAST)
        what = f"{task.name}: the decoder at the last step over step {steps[0] + 1}"
        yield paired(what, decoder[cells.last_step(results)], decoder[steps[0]], LEAST)


CLAIM = Claim(
    source="arXiv 2306.05720",
    sentence="The autoencoder is weak at early steps and strong at late ones.",
    test=_effects,
    options={"baselines": ("vae",)},
)
