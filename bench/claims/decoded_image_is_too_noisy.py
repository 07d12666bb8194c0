"""Early decoded images are too noisy to label, where probes already read the scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim, LacksError

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare probes with the labeler on the image decoded from the same step's latents.

    At each of steps 1, 3 and 5 that is probed, the best layer must exceed it by 0.01. The decoded
    image is that of the partly denoised latents, as in the paper, and not of the predicted clean
    ones, which is another baseline.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import paired
    from extract.networks import DECODED, DECODED_LAYERS

    (results,) = runs
    for task in cells.tasks_of(results, ("saliency", "depth")):
        for step in (step for step in (0, 2, cells.early_step(results)) if step in results.steps):
            decoded = task.where(network=DECODED, step=step, layer=DECODED_LAYERS[0])
            if not decoded:
                raise LacksError("a run with --baselines decoded")
            best = cells.best(task, step)
            yield paired(
                f"{task.name}, step {step + 1}: {best.layer} over the labeler on the decoded image",
                cells.scores_of(task, best),
                cells.scores_of(task, decoded[0]),
                LEAST,
            )


CLAIM = Claim(
    source="arXiv 2306.05720",
    sentence="Probes read the scene at steps whose decoded image is still noise.",
    test=_effects,
    options={"baselines": ("decoded",)},
)
