"""The quality of features is unimodal in the noise level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import Claim, LacksError

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect

TASKS = ("colour", "shape")
"""Classes of whole images, as in the paper."""


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Test whether classes are read best at a noise level between the extremes.

    Rendered images are noised to every step, as the paper noises photographs. In the layer of the
    best cell between the first and the last step, which is chosen on training images, accuracy
    must be higher there than at the first step (most noise) and at the last one (least noise).
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import paired
    from extract.networks import TRAINED
    from probes.probe_set import ACTIVATIONS

    (results,) = runs
    if results.config.source != "rendered":
        raise LacksError(f"a run with --source rendered --tasks {','.join(TASKS)}")
    ends = 0, cells.last_step(results)
    if results.steps[0] != 0:
        raise LacksError("a run that probes the first step")
    for task in cells.tasks_of(results, TASKS):
        between = [
            cell for cell in task.where(network=TRAINED, probe=ACTIVATIONS) if cell.step not in ends
        ]
        peak = cells.least_loss(task, between, "a run that probes three or more steps")
        for end in ends:
            (other,) = task.where(network=TRAINED, probe=ACTIVATIONS, layer=peak.layer, step=end)
            yield paired(
                f"{task.name}: {peak.layer} step {peak.step + 1} over step {end + 1}",
                cells.scores_of(task, peak),
                cells.scores_of(task, other),
            )


CLAIM = Claim(
    source="arXiv 2502.05743",
    sentence="The quality of features for classification peaks at an intermediate noise level.",
    test=_effects,
    options={"source": "rendered", "tasks": TASKS},
)
