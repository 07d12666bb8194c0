"""From the folds' sums to probes: weights, penalties and cross-validated losses of every place and step."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from probes.accumulate import Columns, Site, SufficientStatistics, total_sums
from probes.edit import activation_pattern
from probes.equal_width import on_activations, projected, projection
from probes.moments import CPU, Moments
from probes.position import position_columns
from probes.probe_set import (
    ACTIVATIONS,
    ALWAYS,
    EQUAL_WIDTH,
    PERMUTED,
    POSITION,
    WITH_POSITION,
    Cell,
    FittedProbe,
    Probes,
    ProbeSet,
    united,
)
from probes.ridge import PENALTIES, Fit, fit

_Named = tuple[str, Cell, FittedProbe]


def solve_probe_set(
    folds: Sequence[SufficientStatistics],
    tasks: Sequence[str],
    steps: Sequence[int],
    selective: Collection[str],
    threads: int,
) -> ProbeSet:
    """Solve every probe of the named tasks (all or some of those that the sums hold).

    ``steps`` are the probed steps in the order of the moments' leading axis; networks in ``selective`` also get the
    probes of permuted labels and of equal width. Places are solved in parallel on ``threads`` threads.
    """
    solved = [
        solve_sites(folds, tasks, steps, selective, threads),
        solve_position(folds, tasks, selective),
    ]
    return ProbeSet(united(solved, tasks), mean_maps(folds, tasks))


def solve_sites(
    folds: Sequence[SufficientStatistics],
    tasks: Sequence[str],
    steps: Sequence[int],
    selective: Collection[str],
    threads: int,
    only: Collection[tuple[Site, int]] | None = None,
    device: torch.device = CPU,
) -> Probes:
    """The probes of all places whose moments the sums hold, fit on ``device`` and given on the CPU.

    ``only`` names some of the places and indices of steps. Several threads are for the CPU: a card does one thing after
    the other, and torch opens its solvers there at their first use, which must not be in several threads at once.
    """
    solved: list[list[_Named]] = []
    with ThreadPoolExecutor(threads) if threads > 1 and device == CPU else nullcontext() as pool:
        for context in contexts(folds, tasks, device):
            widths = [
                shape.channels
                for (network, _), shape in context.everything.shapes.items()
                if network in selective
            ]
            solve_place = partial(_solve_place, context, steps, selective, min(widths, default=0))
            jobs = [(site, at) for site in context.sites for at in range(len(steps))]
            wanted = [job for job in jobs if only is None or job in only]
            solved += map(solve_place, wanted) if pool is None else pool.map(solve_place, wanted)
    return _by_task(tasks, solved)


def solve_position(
    folds: Sequence[SufficientStatistics],
    tasks: Sequence[str],
    selective: Collection[str],
    device: torch.device = CPU,
) -> Probes:
    """The probes of the position alone, one for each of the ``position_places`` whose moments the sums hold."""
    sites = [context for context in contexts(folds, tasks, device) if context.has_position]
    return _by_task(tasks, [_solve_position(context, selective) for context in sites])


def position_sites(sums: SufficientStatistics, selective: Collection[str]) -> tuple[Site, ...]:
    """For every grid of the networks in ``selective`` a place whose moments hold its position columns.

    Not of all networks: a baseline must not depend on what else is watched.
    """
    found: dict[int, Site] = {}
    for site, shape in sums.shapes.items():
        if site[0] in selective:
            found.setdefault(shape.side, site)
    return tuple(site for _, site in sorted(found.items()))


def mean_maps(folds: Sequence[SufficientStatistics], tasks: Sequence[str]) -> dict[str, Tensor]:
    """Per task, the mean target of the training images."""
    images = sum(sums.images for sums in folds)
    return {
        name: torch.stack([sums.target[name] for sums in folds]).sum(0) / images for name in tasks
    }


def _by_task(tasks: Sequence[str], solved: Iterable[Iterable[_Named]]) -> Probes:
    found: Probes = {name: {} for name in tasks}
    for name, cell, probe in (entry for part in solved for entry in part):
        found[name][cell] = probe
    return found


def contexts(
    folds: Sequence[SufficientStatistics], tasks: Sequence[str], device: torch.device = CPU
) -> Iterator[Context]:
    """Those of the named tasks that are of maps, then those that are of whole images."""
    everything = total_sums(folds)
    for of_images in (False, True):
        mine = tuple(name for name in tasks if everything.is_of_images(name) is of_images)
        if mine:
            seen = [sums.only(of_images) for sums in folds]
            yield Context(seen, everything.only(of_images), mine, not of_images, device)


@dataclass(frozen=True, slots=True)
class Context:
    """The sums that all places share, of tasks that are all of maps or all of whole images."""

    folds: Sequence[SufficientStatistics]
    everything: SufficientStatistics
    tasks: tuple[str, ...]
    has_position: bool
    """Of maps: their tokens lie somewhere."""
    device: torch.device
    """Where probes are fit."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where activations were read."""
        return tuple(self.everything.moments)

    def columns(self, site: Site) -> Columns:
        """The meaning of a place's columns."""
        widths = {name: target.shape[0] for name, target in sorted(self.everything.target.items())}
        position = position_columns(self.side(site)).shape[1] if self.has_position else 0
        return Columns(
            self.everything.shapes[site].channels, position, widths, self.everything.draws
        )

    def side(self, site: Site) -> int:
        """Tokens along one side of a place; of whole images there is one."""
        return self.everything.shapes[site].side if self.has_position else 1

    def groups(self, wanted: Sequence[tuple[str, int]], columns: Columns) -> Tensor | None:
        """One penalty for all classes of a task of whole images, so that their predictions can be compared."""
        if self.has_position:
            return None
        return torch.cat(
            [torch.full((columns.widths[task],), at) for at, (task, _) in enumerate(wanted)]
        )

    def fit(
        self,
        folds: Sequence[Moments],
        features: Tensor,
        targets: Tensor,
        groups: Tensor | None = None,
    ) -> Fit:
        """Fit on the device; moments and solution are on the CPU."""
        return fit(
            [moments.to(self.device) for moments in folds], features, targets, groups=groups
        ).cpu()

    def named(
        self,
        cell: Cell,
        wanted: Sequence[tuple[str, int]],
        columns: Columns,
        solved: Fit,
        rescale: Tensor,
    ) -> Iterator[_Named]:
        """Cut the solution for many targets into one entry per (task, draw)."""
        start = 0
        for task, draw in wanted:
            part = slice(start, start + columns.widths[task])
            start = part.stop
            within = torch.stack(
                [sums.within[task, cell.side] / sums.images for sums in self.folds]
            ).mean(0)
            probe = PERMUTED if draw else cell.probe
            yield (
                task,
                replace(cell, probe=probe, draw=draw),
                FittedProbe(
                    weights=solved.weights[:, part] * rescale[:, None],
                    intercept=solved.intercept[part],
                    penalty=PENALTIES[int(solved.penalty_index[part].max())],
                    at_edge=bool(solved.at_edge[part].any()),
                    # The token-level loss and the variance inside blocks add up to the loss over pixels.
                    cv_loss=float((solved.chosen_loss[part] + within).mean()),
                ),
            )


def _solve_place(
    context: Context,
    steps: Sequence[int],
    selective: Collection[str],
    narrowest: int,
    job: tuple[Site, int],
) -> list[_Named]:
    site, at = job
    columns = context.columns(site)
    folds = [sums.moments[site][at] for sums in context.folds]
    true = [(task, 0) for task in context.tasks]
    is_selective = site[0] in selective
    wanted = (
        [(task, draw) for task in context.tasks for draw in range(1 + columns.draws)]
        if is_selective
        else true
    )
    cell = Cell(*site, steps[at], ACTIVATIONS, 0, context.side(site))
    ones = torch.ones(columns.channels, dtype=torch.float64)
    alone = context.fit(
        folds, columns.activations, columns.targets(wanted), groups=context.groups(wanted, columns)
    )
    result = list(context.named(cell, wanted, columns, alone, ones))
    if is_selective and context.has_position:
        # Edits go along the pattern; they are of maps, token by token.
        scatter = context.everything.moments[site].scatter[at][
            : columns.channels, : columns.channels
        ]
        result = [
            (t, named, replace(s, pattern=activation_pattern(s.weights, scatter)))
            for t, named, s in result
        ]
    if is_selective and columns.channels > narrowest:
        directions = projection(columns.channels, narrowest)
        narrow = [projected(moments, directions) for moments in folds]
        targets = columns.targets(true) - columns.channels + narrowest
        few = context.fit(
            narrow, torch.arange(narrowest), targets, groups=context.groups(true, columns)
        )
        few = on_activations(few, directions)
        result.extend(context.named(replace(cell, probe=EQUAL_WIDTH), true, columns, few, ones))
    if not context.has_position:
        return result
    scale = position_scale(folds, columns)
    alike = [scaled(moments, columns.site, scale) for moments in folds]
    both = context.fit(alike, torch.cat([columns.activations, columns.site]), columns.targets(true))
    rescale = torch.ones(columns.channels + columns.position, dtype=torch.float64)
    rescale[columns.channels :] = scale
    result.extend(context.named(replace(cell, probe=WITH_POSITION), true, columns, both, rescale))
    return result


def _solve_position(context: Context, selective: Collection[str]) -> Iterator[_Named]:
    wanted = [(task, 0) for task in context.tasks]
    for site in position_sites(context.everything, selective):
        if site not in context.sites:
            continue
        side, columns = context.side(site), context.columns(site)
        solved = context.fit(
            [sums.moments[site][0] for sums in context.folds], columns.site, columns.targets(wanted)
        )
        cell = Cell(POSITION, f"{side}x{side}", ALWAYS, POSITION, 0, side)
        yield from context.named(
            cell, wanted, columns, solved, torch.ones(columns.position, dtype=torch.float64)
        )


def position_scale(folds: Sequence[Moments], columns: Columns) -> float:
    """Brings the position columns to the activations' mean variance, so that one penalty suits both."""
    spread = sum(moments.scatter.diagonal() for moments in folds)
    assert isinstance(spread, Tensor)
    activations, position = spread[columns.activations].mean(), spread[columns.site].mean()
    return float((activations / position.clamp(min=1e-300)).sqrt()) or 1.0


def scaled(moments: Moments, columns: Tensor, factor: float) -> Moments:
    """The moments after the columns have been multiplied by the factor."""
    scale = torch.ones(moments.columns, dtype=torch.float64)
    scale[columns] = factor
    return Moments(moments.n, moments.mean * scale, moments.scatter * scale[:, None] * scale)
