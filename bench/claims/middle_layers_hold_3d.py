"""Middle layers at early steps, but not the first, hold depth best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import Claim, LacksError

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect
    from probes.probe_set import Cell

MIDDLE = (1 / 3, 2 / 3)
"""Relative positions of the middle third of the layers."""


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare the best of the middle layers at early steps with the best of everything else.

    Middle layers lie in the middle third of the order of computation; early steps are those after
    the first, up to half of the sampler's. Both cells are chosen on training images, so under the
    claim the first has the lower error on test images, in every model. The paper tests video
    models, whose features it reads by small networks; here models of images are read by probes.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import paired
    from extract.networks import TRAINED
    from extract.taps import depth_of
    from probes.probe_set import ACTIVATIONS

    of_depth = cells.generated_with(runs, "depth")
    models = {results.config.model for results in of_depth}
    if len(models) < 2:
        raise LacksError("runs of two or more models with depth")
    for results in of_depth:
        (task,) = cells.tasks_of(results, ("depth",))
        chosen: list[Cell] = []
        rest: list[Cell] = []
        for cell in task.where(network=TRAINED, probe=ACTIVATIONS):
            is_middle = MIDDLE[0] <= depth_of(results.layers, cell.layer) <= MIDDLE[1]
            is_early = 0 < cell.step < results.config.sampler_steps / 2
            (chosen if is_middle and is_early else rest).append(cell)
        first = cells.least_loss(task, chosen, "a run that probes middle layers at early steps")
        other = cells.least_loss(task, rest, "a run that probes further layers or steps")
        yield paired(
            f"{results.config.model}, depth: {first.layer} step {first.step + 1} over "
            f"{other.layer} step {other.step + 1}",
            cells.scores_of(task, first),
            cells.scores_of(task, other),
        )


CLAIM = Claim(
    source="arXiv 2512.19949",
    sentence="Features of middle layers at early steps, but not the first, hold 3D best.",
    test=_effects,
    kind="runs",
)
