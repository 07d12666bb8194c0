"""Features of transformers are less local than those of a UNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.claim import Claim, LacksError

if TYPE_CHECKING:
    from bench.across.models import Model
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect
    from datasets.grid import Grid
    from probes.bootstrap import Array


def _effects(runs: Sequence[Results]) -> Iterator[Effect]:
    """Compare how much of a mask a token tells of its own place, at the same number of tokens.

    The ceiling of a grid is the Dice of the best mask of whole tokens. At the last step, the best
    layer's shortfall below its ceiling must be larger for transformers than for UNets, on a grid
    that they share, over the test items that they share. A layer whose tokens mix places falls
    short of its grid's ceiling; one that is coarse does not, since the ceiling is coarse too.
    Networks that differ by their seed alone are one group, whose spread widens the interval. Groups
    are compared that were trained for the same objective on as many images; all of them are where
    none was.
    """
    from bench.across.contrasts import groups_of
    from bench.across.models import described
    from bench.verdicts import cells

    generated = cells.generated_with(runs, "saliency")
    models = [described(results) for results in generated if not results.untrained]
    groups = groups_of(_once_each(models))
    unets = [group for group in groups if cells.is_unet(group[0].results)]
    others = [group for group in groups if not cells.is_unet(group[0].results)]
    if not (unets and others):
        missing = "a UNet" if others else "a transformer"
        raise LacksError(f"runs of {missing} beside those given")
    pairs = [(unet, other) for unet in unets for other in others]
    matched = [(unet, other) for unet, other in pairs if _trained_alike(unet[0], other[0])]
    for unet, other in matched or pairs:
        yield _effect(unet, other, groups)


def _once_each(models: Sequence[Model]) -> list[Model]:
    """Leave out further runs of a network, which would stand as groups of their own."""
    networks: dict[tuple[object, ...], Model] = {}
    for model in models:
        # Of an unknown training nothing tells which network it is.
        key = (model.results.path,) if model.seed is None else (model.kind, model.seed)
        networks.setdefault(key, model)
    return list(networks.values())


def _trained_alike(one: Model, other: Model) -> bool:
    return (one.objective, one.training_images) == (other.objective, other.training_images)


def _effect(
    unet: tuple[Model, ...], other: tuple[Model, ...], groups: Sequence[tuple[Model, ...]]
) -> Effect:
    """Return the shortfall of the transformers over that of the UNets."""
    import numpy as np

    from bench.across.seeds import group_difference, spread_of
    from bench.verdicts.effect import Effect

    both = (*unet, *other)
    grid = _shared_grid([model.results for model in both])
    items = _shared_items(both)

    def shortfalls(group: Sequence[Model]) -> Array:
        return np.array([_shortfall(model.results, grid, items) for model in group])

    # The spread over seeds is pooled over all groups that can be measured in the same way.
    alike = [
        group
        for group in groups
        if len(group) > 1
        and all(grid in _grids(model.results) for model in group)
        and all(set(items) <= set(model.results.record.test_items) for model in group)
    ]
    seeds = [shortfalls(group) for group in alike]
    found = group_difference(shortfalls(other), shortfalls(unet), spread_of(seeds))
    what = (
        f"saliency, {grid.rows} x {grid.columns} tokens: shortfall of {_names(other)} over that of "
        f"{_names(unet)}"
    )
    return Effect(what, found.value, 0.0, found.p)


def _names(group: Sequence[Model]) -> str:
    return " and ".join(model.name for model in group)


def _grids(results: Results) -> set[Grid]:
    from bench.verdicts import cells
    from extract.networks import TRAINED

    (task,) = cells.tasks_of(results, ("saliency",))
    return {cell.grid for cell in task.where(network=TRAINED, step=cells.last_step(results))}


def _shared_grid(runs: Sequence[Results]) -> Grid:
    """Return the finest grid that all models have."""
    shared = set.intersection(*map(_grids, runs))
    if not shared:
        raise LacksError("runs of models with a layer of the same number of tokens")
    return max(shared)


def _shared_items(models: Sequence[Model]) -> tuple[str, ...]:
    from bench.across.shared import paired_items
    from bench.errors import UserError

    try:
        return paired_items([model.results for model in models])
    except UserError as error:
        raise LacksError(f"runs that can be compared ({error})") from error


def _shortfall(results: Results, grid: Grid, items: Sequence[str]) -> Array:
    """Return, per image, the ceiling of a grid minus the score of its best layer."""
    from bench.verdicts import cells
    from extract.networks import TRAINED
    from probes.probe_set import ACTIVATIONS, CEILING

    (task,) = cells.tasks_of(results, ("saliency",))
    probed = task.where(
        network=TRAINED, step=cells.last_step(results), probe=ACTIVATIONS, grid=grid
    )
    best = cells.least_loss(task, probed, "probes of that grid")
    (ceiling,) = task.where(network=CEILING, grid=grid)
    rows = [results.record.test_items.index(item) for item in items]
    return (cells.scores_of(task, ceiling) - cells.scores_of(task, best))[rows]


CLAIM = Claim(
    source="a question in the issues of CleanDIFT's repository",
    sentence="Tokens of diffusion transformers are less local than those of UNets.",
    test=_effects,
    kind="runs",
)
