"""Solve the probes of every site and step from the statistics of the folds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from datasets.grid import Grid
from probes.context import Context, Entry, contexts
from probes.edit import activation_pattern
from probes.equal_width import on_activations, projected, projection
from probes.moments import CPU, Moments
from probes.probe_set import (
    ACTIVATIONS,
    EQUAL_WIDTH,
    POSITION,
    STANDARDISED,
    WITH_POSITION,
    Cell,
    Probes,
    ProbeSet,
    baseline_cell,
    united,
)
from probes.ridge import Further, Problem
from probes.shared_eigenbases import Features, Sharing, no_sharing
from probes.statistics import Columns, Site, SufficientStatistics


def solve_probe_set(
    folds: Sequence[SufficientStatistics],
    tasks: Sequence[str],
    steps: Sequence[int],
    selective: Collection[str],
    threads: int,
    standardised: bool = False,
) -> ProbeSet:
    """Solve every probe of the named tasks, which are some or all of those in the statistics.

    ``steps`` are the probed steps in the order of the moments' leading axis. Networks in
    ``selective`` also get probes of permuted labels and of equal width, and with ``standardised``
    those of standardised activations. Sites are solved in parallel on ``threads`` threads.
    """
    parts = [
        solve_sites(folds, tasks, steps, selective, threads, standardised=standardised),
        solve_position(folds, tasks, selective),
    ]
    return ProbeSet(united(parts, tasks), mean_maps(folds, tasks))


def solve_sites(
    folds: Sequence[SufficientStatistics],
    tasks: Sequence[str],
    steps: Sequence[int],
    selective: Collection[str],
    threads: int,
    only: Collection[tuple[Site, int]] | None = None,
    device: torch.device = CPU,
    sharing: Sharing = no_sharing,
    standardised: bool = False,
) -> Probes:
    """The probes of all sites with moments, fit on ``device`` and returned on the CPU.

    ``only`` restricts the (site, step index) pairs. ``sharing`` decomposes the features' scatters.
    ``threads`` applies to the CPU. A GPU runs one task at a time, and torch initialises its solvers
    there on first use, which is not thread-safe.
    """
    entries: list[list[Entry]] = []
    with ThreadPoolExecutor(threads) if threads > 1 and device == CPU else nullcontext() as pool:
        for context in contexts(folds, tasks, device):
            widths = [
                shape.channels
                for (network, _), shape in context.total.shapes.items()
                if network in selective
            ]
            narrowest = min(widths, default=0)
            solve_site = partial(
                _solve_site, context, steps, selective, narrowest, sharing, standardised
            )
            jobs = [(site, index) for site in context.sites for index in range(len(steps))]
            jobs = [job for job in jobs if only is None or job in only]
            entries += map(solve_site, jobs) if pool is None else pool.map(solve_site, jobs)
    return _by_task(tasks, entries)


def solve_position(
    folds: Sequence[SufficientStatistics],
    tasks: Sequence[str],
    selective: Collection[str],
    device: torch.device = CPU,
) -> Probes:
    """The probes of position alone, one for each of the :func:`position_sites` with moments."""
    of_maps = [context for context in contexts(folds, tasks, device) if context.has_position]
    return _by_task(tasks, [_solve_position(context, selective) for context in of_maps])


def position_sites(sums: SufficientStatistics, selective: Collection[str]) -> tuple[Site, ...]:
    """One site per grid of the networks in ``selective``, for the moments of its position columns.

    Other networks are left out, as a baseline must not depend on what else is recorded.
    """
    by_grid: dict[Grid, Site] = {}
    for site, shape in sums.shapes.items():
        if site[0] in selective:
            by_grid.setdefault(shape.grid, site)
    return tuple(site for _, site in sorted(by_grid.items()))


def mean_maps(folds: Sequence[SufficientStatistics], tasks: Sequence[str]) -> dict[str, Tensor]:
    """Per task, the mean target of the training images."""
    images = sum(sums.images for sums in folds)
    return {
        name: torch.stack([sums.target[name] for sums in folds]).sum(0) / images for name in tasks
    }


def _by_task(tasks: Sequence[str], entries: Iterable[Iterable[Entry]]) -> Probes:
    probes: Probes = {name: {} for name in tasks}
    for name, cell, probe in chain.from_iterable(entries):
        probes[name][cell] = probe
    return probes


def _solve_site(
    context: Context,
    steps: Sequence[int],
    selective: Collection[str],
    narrowest: int,
    sharing: Sharing,
    standardised: bool,
    job: tuple[Site, int],
) -> list[Entry]:
    """The probes of one site and step index; ``narrowest`` is the width of the narrowest layer."""
    site, index = job
    columns = context.columns(site)
    channels = columns.channels
    folds = [sums.moments[site][index] for sums in context.folds]
    true = [(task, 0) for task in context.tasks]
    is_selective = site[0] in selective
    draws = range(1 + columns.draws if is_selective else 1)
    all_draws = [(task, draw) for task in context.tasks for draw in draws]
    cell = Cell(*site, steps[index], ACTIVATIONS, 0, context.grid(site))
    problems = [Problem(columns.targets(all_draws), groups=context.groups(all_draws, columns))]
    if context.has_position:
        further = Further(columns.position_columns, position_scale(folds, columns))
        problems.append(Problem(columns.targets(true), further))
    features = Features(site, index, not context.has_position, channels)
    activation_fit, *position_fit = context.fit(
        folds, columns.activation_columns, problems, sharing(features)
    )
    entries = list(context.named(cell, all_draws, columns, activation_fit))
    if is_selective and context.has_position:
        # Edits use the patterns; they exist for tasks of maps only.
        scatter = context.total.moments[site].scatter[index][:channels, :channels]
        entries = [
            (task, cell_of, replace(probe, pattern=activation_pattern(probe.weights, scatter)))
            for task, cell_of, probe in entries
        ]
    if is_selective and channels > narrowest:
        directions = projection(channels, narrowest)
        targets = columns.targets(true) - channels + narrowest
        (narrow_fit,) = context.fit(
            [projected(moments, directions) for moments in folds],
            torch.arange(narrowest),
            [Problem(targets, groups=context.groups(true, columns))],
            sharing(features._replace(width=narrowest)),
        )
        narrow_fit = on_activations(narrow_fit, directions)
        narrow_cell = replace(cell, probe=EQUAL_WIDTH)
        entries.extend(context.named(narrow_cell, true, columns, narrow_fit))
    if is_selective and standardised:
        problem = Problem(columns.targets(true), groups=context.groups(true, columns))
        (unit_fit,) = context.fit(
            folds,
            columns.activation_columns,
            [problem],
            sharing(features._replace(standardised=True)),
            standardised=True,
        )
        unit_cell = replace(cell, probe=STANDARDISED)
        entries.extend(context.named(unit_cell, true, columns, unit_fit))
    for solved in position_fit:
        position_cell = replace(cell, probe=WITH_POSITION)
        entries.extend(context.named(position_cell, true, columns, solved))
    return entries


def _solve_position(context: Context, selective: Collection[str]) -> Iterator[Entry]:
    true = [(task, 0) for task in context.tasks]
    for site in position_sites(context.total, selective):
        if site not in context.sites:
            continue
        columns = context.columns(site)
        (solved,) = context.fit(
            [sums.moments[site][0] for sums in context.folds],
            columns.position_columns,
            [Problem(columns.targets(true))],
        )
        cell = baseline_cell(POSITION, context.grid(site))
        yield from context.named(cell, true, columns, solved)


def position_scale(folds: Sequence[Moments], columns: Columns) -> float:
    """The factor that gives position columns the activations' mean variance, for one penalty."""
    spread = sum(moments.scatter.diagonal() for moments in folds)
    assert isinstance(spread, Tensor)
    activations = spread[columns.activation_columns].mean()
    position = spread[columns.position_columns].mean()
    return float((activations / position.clamp(min=1e-300)).sqrt()) or 1.0
