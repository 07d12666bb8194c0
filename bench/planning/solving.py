"""Time to solve a run's probes, measured on a few sites of every size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bench.measure import timed
from bench.study import Study
from extract.networks import TRAINED
from probes.moments import CPU, Moments
from probes.probe_set import STANDARDISED, Cell, FittedProbe, Probes, ProbeSet, united
from probes.shared_eigenbases import Sharing, no_sharing
from probes.solve import mean_maps, position_sites, solve_position, solve_sites
from probes.statistics import Shape, Site, SufficientStatistics

_Job = tuple[Site, int]


def sampled_probe_set(
    folds: Sequence[SufficientStatistics],
    tasks: Sequence[str],
    study: Study,
    sharing: Sharing = no_sharing,
) -> tuple[ProbeSet, float]:
    """A probe set of the size and shape of a run's, and the seconds to solve it.

    Of all sites of one shape, only as many (site, step) pairs are solved as a run solves in
    parallel; their probes stand in for the others.
    """
    if not tasks:
        return ProbeSet({}, {}), 0.0
    parts: list[Probes] = []
    seconds = 0.0
    steps, device = study.config.probed_steps, study.device
    threads = study.threads if device == CPU else 1
    for jobs in _alike(folds[0], len(steps)):
        sample = jobs[: min(threads, len(steps))]
        few = cut(folds, {site for site, _ in sample})
        solve = partial(
            solve_sites,
            few,
            tasks,
            steps,
            {TRAINED},
            threads,
            only=sample,
            device=device,
            sharing=sharing,
            standardised=STANDARDISED in study.config.baselines,
        )
        if device != CPU and not parts:
            # The libraries of a GPU initialise at their first use.
            solve()
        solved, spent = timed(solve)
        seconds += spent / len(sample) * len(jobs)
        parts.append({name: dict(_copies(solved[name], steps, sample[0], jobs)) for name in tasks})
    few = cut(folds, position_sites(folds[0], {TRAINED}))
    position, spent = timed(lambda: solve_position(few, tasks, {TRAINED}, device))
    return ProbeSet(united([*parts, position], tasks), mean_maps(folds, tasks)), seconds + spent


def _copies(
    solved: Mapping[Cell, FittedProbe], steps: Sequence[int], one: _Job, jobs: Sequence[_Job]
) -> Iterator[tuple[Cell, FittedProbe]]:
    """The probes of one site and step, repeated for all of the same shape."""
    for cell, probe in solved.items():
        if ((cell.network, cell.layer), steps.index(cell.step)) == one:
            for (network, layer), at in jobs:
                yield replace(cell, network=network, layer=layer, step=steps[at]), probe


def bytes_of(sums: SufficientStatistics, only: Site | None = None) -> int:
    """Memory of statistics, or of their share of one site."""
    return sum(
        moments.scatter.nbytes + moments.mean.nbytes
        for sites in (sums.moments, sums.pooled)
        for site, moments in sites.items()
        if only in (None, site)
    )


def _alike(sums: SufficientStatistics, steps: int) -> list[list[_Job]]:
    """All (site, index of step) pairs, grouped by the time to solve them."""
    groups: dict[tuple[bool, Shape], list[_Job]] = defaultdict(list)
    for site, shape in sums.shapes.items():
        groups[site[0] == TRAINED, shape].extend((site, at) for at in range(steps))
    return list(groups.values())


def cut(
    folds: Sequence[SufficientStatistics], sites: Collection[Site]
) -> list[SufficientStatistics]:
    """The folds' statistics with the moments of some sites only."""

    def kept(moments: Mapping[Site, Moments]) -> dict[Site, Moments]:
        return {site: own for site, own in moments.items() if site in sites}

    return [replace(sums, moments=kept(sums.moments), pooled=kept(sums.pooled)) for sums in folds]
