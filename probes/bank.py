"""All probes of a run, solved: from the folds' sums to weights, penalties and cross-validated losses."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor

from probes.edit import activation_pattern
from probes.equal_width import on_activations, projected, projection
from probes.gather import Columns, Place, Sums, total_sums
from probes.position import position_columns
from probes.ridge import PENALTIES, Fit, fit
from probes.sums import Moments

POSITION, MEAN_MAP, CEILING, FOREGROUND = "position", "mean map", "ceiling", "all foreground"
"""Networks that are none: predictions from the token's place, the mean training target (of classes: the majority), the
target's block means, and a mask of everything."""
ALWAYS = -1
"""The step of a cell that does not depend on the step."""

ACTIVATIONS, WITH_POSITION, PERMUTED, EQUAL_WIDTH = "activations", "activations+position", "permuted", "equal width"
"""What a probe reads; ``permuted`` reads the activations and was fit to other pictures' labels, ``equal width`` reads
as many random directions of the activations as the narrowest layer has channels (which needs no such probe)."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One probe: where it reads, at which step (0 to T-1, or ``ALWAYS``), and of which kind and draw it is."""

    network: str
    layer: str
    step: int
    probe: str
    draw: int
    side: int
    """Tokens along one side; 1 for a task of whole pictures."""


@dataclass(frozen=True, slots=True)
class Solved:
    """The probes of one task at one place and step for one cell."""

    weights: Float[Tensor, "f k"]
    """On the activations, then (for ``activations+position``) on the position columns."""
    intercept: Float[Tensor, " k"]
    penalty: float
    """Relative penalty that cross-validation chose; the largest over channels."""
    at_edge: bool
    cv_loss: float
    """Cross-validated mean squared error at full resolution."""
    pattern: Float[Tensor, "f k"] | None = None
    """How the activations vary with what is read, for edits; of networks that have probes of permuted labels."""


@dataclass(frozen=True)
class Bank:
    """The probes of every cell, per task, with what the baselines need."""

    probes: dict[str, dict[Cell, Solved]]
    mean_map: dict[str, Float[Tensor, "_k _h _w"]]
    thresholds: dict[str, dict[Cell, float]] = field(default_factory=dict)
    """Per thresholded task; chosen on training pictures only."""

    def cells(self, task: str) -> tuple[Cell, ...]:
        """Every cell of a task, baselines last."""
        solved = tuple(self.probes[task])
        sides = sorted({cell.side for cell in solved})
        full = self.mean_map[task].shape[-1]
        return (
            *solved,
            *(Cell(CEILING, f"{side}x{side}", ALWAYS, CEILING, 0, side) for side in sides),
            Cell(MEAN_MAP, f"{full}x{full}", ALWAYS, MEAN_MAP, 0, full),
            *([foreground_cell(sides[0])] if task in self.thresholds else []),
        )

    def best(self, task: str, network: str, step: int, probe: str) -> Cell:
        """The layer with the least cross-validated loss on the training pictures."""
        rivals = [c for c in self.probes[task] if (c.network, c.step, c.probe) == (network, step, probe)]
        return min(rivals, key=lambda cell: self.probes[task][cell].cv_loss)


def with_readings(bank: Bank, network: str, layers: Sequence[str], steps: Sequence[int]) -> Bank:
    """The bank with a cell per layer and step whose activations are the answer itself, pixel by pixel.

    Their channels are the targets of the tasks of maps, in the order of their names; nothing is fit: the loss is nan.
    """
    maps = sorted(name for name, target in bank.mean_map.items() if target.shape[-1] > 1)
    start, total = 0, sum(bank.mean_map[name].shape[0] for name in maps)
    probes, thresholds = dict(bank.probes), dict(bank.thresholds)
    for name in maps:
        width, side = bank.mean_map[name].shape[0], bank.mean_map[name].shape[-1]
        weights = torch.eye(total, dtype=torch.float64)[:, start : start + width]
        start += width
        reading = Solved(weights, torch.zeros(width, dtype=torch.float64), 0.0, False, float("nan"))
        cells = [Cell(network, layer, step, ACTIVATIONS, 0, side) for step in steps for layer in layers]
        probes[name] = probes[name] | dict.fromkeys(cells, reading)
        if name in thresholds:
            # A mask needs no threshold to be found: any between its two values gives it back.
            thresholds[name] = thresholds[name] | dict.fromkeys(cells, 0.5)
    return replace(bank, probes=probes, thresholds=thresholds)


def foreground_cell(side: int) -> Cell:
    """The baseline of a task of masks; any grid will do, as the same is predicted everywhere."""
    return Cell(FOREGROUND, f"{side}x{side}", ALWAYS, FOREGROUND, 0, side)


def solve_bank(
    folds: Sequence[Sums],
    tasks: Sequence[str],
    steps: Sequence[int],
    selective: Collection[str],
    threads: int,
    only: Collection[tuple[Place, int]] | None = None,
) -> Bank:
    """Solve every probe of the named tasks (all or some of those that the sums hold).

    ``steps`` are the probed steps in the order of the moments' leading axis; networks in ``selective`` also get the
    probes of permuted labels and of equal width. Places are solved in parallel on ``threads`` threads; ``only`` those
    of some places and indices of steps, as they come out among all.
    """
    if not tasks:
        return Bank({}, {})
    solved: list[list[_Named]] = []
    with ThreadPoolExecutor(threads) as pool:
        for context in contexts(folds, tasks):
            narrowest = min(
                (context.columns(place).channels for place in context.places if place[0] in selective), default=0
            )
            solve_place = partial(_solve_place, context, steps, selective, narrowest)
            jobs = [(place, at) for place in context.places for at in range(len(steps))]
            solved += pool.map(solve_place, [job for job in jobs if only is None or job in only])
            if context.has_position:
                solved.append(_solve_position(context, selective))
    probes: dict[str, dict[Cell, Solved]] = {name: {} for name in tasks}
    for part in solved:
        for name, cell, probe in part:
            probes[name][cell] = probe
    pictures = sum(sums.pictures for sums in folds)
    mean = {name: torch.stack([sums.target[name] for sums in folds]).sum(0) / pictures for name in tasks}
    return Bank(probes, mean)


_Named = tuple[str, Cell, Solved]


def contexts(folds: Sequence[Sums], tasks: Sequence[str]) -> Iterator[Context]:
    """Those of the named tasks that are of maps, then those that are of whole pictures."""
    everything = total_sums(folds)
    for of_pictures in (False, True):
        mine = tuple(name for name in tasks if everything.is_of_pictures(name) is of_pictures)
        if mine:
            seen = [sums.only(of_pictures) for sums in folds]
            yield Context(seen, everything.only(of_pictures), mine, has_position=not of_pictures)


@dataclass(frozen=True, slots=True)
class Context:
    """The sums that all places share, of tasks that are all of maps or all of whole pictures."""

    folds: Sequence[Sums]
    everything: Sums
    tasks: tuple[str, ...]
    has_position: bool
    """Of maps: their tokens lie somewhere."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Where activations were read."""
        return tuple(self.everything.moments)

    def columns(self, place: Place) -> Columns:
        """The meaning of a place's columns."""
        widths = {name: target.shape[0] for name, target in sorted(self.everything.target.items())}
        position = position_columns(self.side(place)).shape[1] if self.has_position else 0
        draws = self.everything.draws
        targets = sum(widths.values()) * (1 + draws)
        return Columns(self.everything.moments[place].columns - position - targets, position, widths, draws)

    def side(self, place: Place) -> int:
        """Tokens along one side of a place."""
        return isqrt(self.everything.moments[place].n // self.everything.pictures)

    def groups(self, wanted: Sequence[tuple[str, int]], columns: Columns) -> Tensor | None:
        """One penalty for all classes of a task of whole pictures, so that their predictions can be compared."""
        if self.has_position:
            return None
        return torch.cat([torch.full((columns.widths[task],), at) for at, (task, _) in enumerate(wanted)])

    def named(
        self, cell: Cell, wanted: Sequence[tuple[str, int]], columns: Columns, solved: Fit, rescale: Tensor
    ) -> Iterator[_Named]:
        """Cut the solution for many targets into one entry per (task, draw)."""
        start = 0
        for task, draw in wanted:
            part = slice(start, start + columns.widths[task])
            start = part.stop
            within = torch.stack([sums.within[task, cell.side] / sums.pictures for sums in self.folds]).mean(0)
            probe = PERMUTED if draw else cell.probe
            yield (
                task,
                replace(cell, probe=probe, draw=draw),
                Solved(
                    weights=solved.weights[:, part] * rescale[:, None],
                    intercept=solved.intercept[part],
                    penalty=PENALTIES[int(solved.penalty_index[part].max())],
                    at_edge=bool(solved.at_edge[part].any()),
                    # The token-level loss and the variance inside blocks add up to the loss over pixels.
                    cv_loss=float((solved.chosen_loss[part] + within).mean()),
                ),
            )


def _solve_place(
    context: Context, steps: Sequence[int], selective: Collection[str], narrowest: int, job: tuple[Place, int]
) -> list[_Named]:
    place, at = job
    columns = context.columns(place)
    folds = [sums.moments[place][at] for sums in context.folds]
    true = [(task, 0) for task in context.tasks]
    is_selective = place[0] in selective
    wanted = [(task, draw) for task in context.tasks for draw in range(1 + columns.draws)] if is_selective else true
    cell = Cell(*place, steps[at], ACTIVATIONS, 0, context.side(place))
    ones = torch.ones(columns.channels, dtype=torch.float64)
    alone = fit(folds, columns.activations, columns.targets(wanted), groups=context.groups(wanted, columns))
    result = list(context.named(cell, wanted, columns, alone, ones))
    if is_selective and context.has_position:
        # Edits go along the pattern; they are of maps, token by token.
        scatter = context.everything.moments[place].scatter[at][: columns.channels, : columns.channels]
        result = [(t, named, replace(s, pattern=activation_pattern(s.weights, scatter))) for t, named, s in result]
    if is_selective and columns.channels > narrowest:
        directions = projection(columns.channels, narrowest)
        narrow = [projected(moments, directions) for moments in folds]
        targets = columns.targets(true) - columns.channels + narrowest
        few = fit(narrow, torch.arange(narrowest), targets, groups=context.groups(true, columns))
        few = on_activations(few, directions)
        result.extend(context.named(replace(cell, probe=EQUAL_WIDTH), true, columns, few, ones))
    if not context.has_position:
        return result
    scale = position_scale(folds, columns)
    alike = [scaled(moments, columns.place, scale) for moments in folds]
    both = fit(alike, torch.cat([columns.activations, columns.place]), columns.targets(true))
    rescale = torch.ones(columns.channels + columns.position, dtype=torch.float64)
    rescale[columns.channels :] = scale
    result.extend(context.named(replace(cell, probe=WITH_POSITION), true, columns, both, rescale))
    return result


def _solve_position(context: Context, selective: Collection[str]) -> list[_Named]:
    """Probes of the position alone, one per grid of the networks in ``selective``; any place holds the columns."""
    place_of_side: dict[int, Place] = {}
    for place in context.everything.moments:
        # Not of all networks: a baseline must not depend on what else is watched.
        if place[0] in selective:
            place_of_side.setdefault(context.side(place), place)
    wanted = [(task, 0) for task in context.tasks]
    result: list[_Named] = []
    for side, place in sorted(place_of_side.items()):
        columns = context.columns(place)
        solved = fit([sums.moments[place][0] for sums in context.folds], columns.place, columns.targets(wanted))
        cell = Cell(POSITION, f"{side}x{side}", ALWAYS, POSITION, 0, side)
        result.extend(context.named(cell, wanted, columns, solved, torch.ones(columns.position, dtype=torch.float64)))
    return result


def position_scale(folds: Sequence[Moments], columns: Columns) -> float:
    """Brings the position columns to the activations' mean variance, so that one penalty suits both."""
    spread = sum(moments.scatter.diagonal() for moments in folds)
    assert isinstance(spread, Tensor)
    activations, position = spread[columns.activations].mean(), spread[columns.place].mean()
    return float((activations / position.clamp(min=1e-300)).sqrt()) or 1.0


def scaled(moments: Moments, columns: Tensor, factor: float) -> Moments:
    """The moments after the columns have been multiplied by the factor."""
    scale = torch.ones(moments.columns, dtype=torch.float64)
    scale[columns] = factor
    return Moments(moments.n, moments.mean * scale, moments.scatter * scale[:, None] * scale)
