"""Features of transformers are less local than those of a UNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import Claim, LacksError

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect
    from probes.bootstrap import Array


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare how much of a mask a token tells of its own place, at the same number of tokens.

    The ceiling of a grid is the Dice of the best mask of whole tokens. At the last step, the best
    layer's shortfall below its ceiling must be larger for every transformer than for every UNet,
    on a grid that both have, over the test items that both have. A layer whose tokens mix places
    falls short of its grid's ceiling; one that is coarse does not, since the ceiling is coarse too.
    """
    from bench.verdicts import cells
    from bench.verdicts.effect import paired

    unets = [results for results in runs if cells.is_unet(results)]
    others = [results for results in runs if not cells.is_unet(results)]
    if not (unets and others):
        missing = "a UNet" if others else "a transformer"
        raise LacksError(f"runs of {missing} beside those given; name models with --model")
    for unet in unets:
        for other in others:
            side = _shared_side(unet, other)
            rows, columns = _shared_items(unet, other)
            yield paired(
                f"saliency, {side} x {side} tokens: shortfall of {other.config.model} over that "
                f"of {unet.config.model}",
                _shortfall(other, side)[columns],
                _shortfall(unet, side)[rows],
            )


def _sides(results: Results) -> set[int]:
    from bench.verdicts import cells
    from extract.networks import TRAINED

    (task,) = cells.tasks_of(results, ("saliency",))
    return {cell.side for cell in task.where(network=TRAINED, step=results.steps[-1])}


def _shared_side(a: Results, b: Results) -> int:
    """Return the finest grid that both models have."""
    shared = _sides(a) & _sides(b)
    if not shared:
        raise LacksError("runs of models with a layer of the same number of tokens")
    return max(shared)


def _shared_items(a: Results, b: Results) -> tuple[list[int], list[int]]:
    shared = [name for name in a.record.test_items if name in b.record.test_items]
    if len(shared) < 2:
        raise LacksError("runs of the same items")
    return (
        [a.record.test_items.index(name) for name in shared],
        [b.record.test_items.index(name) for name in shared],
    )


def _shortfall(results: Results, side: int) -> Array:
    """Return, per image, the ceiling of a grid minus the score of its best layer."""
    from bench.verdicts import cells
    from extract.networks import TRAINED
    from probes.probe_set import ACTIVATIONS, CEILING

    (task,) = cells.tasks_of(results, ("saliency",))
    probed = task.where(network=TRAINED, step=results.steps[-1], probe=ACTIVATIONS, side=side)
    best = cells.least_loss(task, probed, "probes of that grid")
    (ceiling,) = task.where(network=CEILING, side=side)
    return cells.scores_of(task, ceiling) - cells.scores_of(task, best)


CLAIM = Claim(
    source="a question in the issues of CleanDIFT's repository",
    sentence="Tokens of diffusion transformers are less local than those of UNets.",
    test=_effects,
    kind="runs",
)
