"""Networks of random weights do not hold what the trained one holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import LEAST, Claim

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect

NETWORKS = 3
"""Random networks differ widely from each other, so one of them would not do."""


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare the best layers of the trained network and of networks of permuted weights.

    The random networks denoise along their own trajectories, as in the paper. At step 5 and at the
    last step the trained one must exceed them by 0.01; their spread counts.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import over_networks

    (results,) = runs
    for task in cells.tasks_of(results, ("saliency", "depth")):
        for step in (cells.early_step(results), cells.last_step(results)):
            best = cells.best(task, step)
            yield over_networks(
                f"{task.name}, step {step + 1}: {best.layer} over permuted weights",
                cells.scores_of(task, best),
                cells.family(results, task, "own", step, NETWORKS),
                LEAST,
            )


CLAIM = Claim(
    source="arXiv 2306.05720",
    sentence="Probes of a network of random weights read neither depth nor the salient object.",
    test=_effects,
    options={"baselines": ("own",), "random_networks": NETWORKS},
)
