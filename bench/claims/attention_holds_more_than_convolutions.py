"""Self-attention holds more of the scene than convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare the best self-attention with the best convolution of the same network.

    The convolutions are the last of every residual block. At step 5 and at the last step the
    attention must exceed them by 0.01, in both tasks.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import paired
    from extract.networks import CONVOLUTION

    (results,) = runs
    for task in cells.tasks_of(results, ("saliency", "depth")):
        for step in (cells.early_step(results), cells.last_step(results)):
            best = cells.best(task, step)
            yield paired(
                f"{task.name}, step {step + 1}: {best.layer} over the convolutions",
                cells.scores_of(task, best),
                cells.family(results, task, CONVOLUTION, step)[0],
                LEAST,
            )


CLAIM = Claim(
    source="arXiv 2306.05720",
    sentence="Self-attention layers hold more of the scene than convolutional ones.",
    test=_effects,
    options={"baselines": ("convolution",)},
)
