"""The position of a token is linearly readable from its activation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect

HALF = 0.5
"""Share of the variance of the coordinates: what is called readable has to explain most of it."""


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Test a probe that predicts row and column of every pixel, each of unit variance.

    At step 5 and at the last step, the best layer's error must be below that of a probe that
    explains half of the variance, and below that of the latent itself, whose zero padding gives the
    borders away, by 0.01. The paper classifies positions; its corners and norms are not tested.
    """
    import numpy as np

    from bench.verdicts import cells
    from bench.verdicts.effect import paired
    from extract.networks import INPUT

    (results,) = runs
    (task,) = cells.tasks_of(results, ("coordinates",))
    for step in (cells.early_step(results), cells.last_step(results)):
        best = cells.best(task, step)
        scores, stem = cells.scores_of(task, best), f"coordinates, step {step + 1}: {best.layer}"
        bound = np.full_like(scores, task.sign() * np.sqrt(1 - HALF))
        yield paired(f"{stem} over an R2 of {HALF:g}", scores, bound)
        latent = cells.family(results, task, INPUT, step)[0]
        yield paired(f"{stem} over the latent itself", scores, latent, LEAST)


CLAIM = Claim(
    source="arXiv 2504.07008",
    sentence="The position of tokens can be read from activations by a linear probe.",
    test=_effects,
    options={"tasks": ("coordinates",)},
)
