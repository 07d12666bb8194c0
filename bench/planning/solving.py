"""How long solving will take, from a few places of every size; what they give stands in for all places of that size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bench.measure import timed
from bench.study import Study
from extract.networks import TRAINED
from probes.moments import CPU, Moments
from probes.probe_set import Cell, FittedProbe, Probes, ProbeSet, united
from probes.solve import mean_maps, position_sites, solve_position, solve_sites
from probes.statistics import Shape, Site, SufficientStatistics

_Job = tuple[Site, int]


def sampled_bank(
    folds: Sequence[SufficientStatistics], tasks: Sequence[str], study: Study
) -> tuple[ProbeSet, float]:
    """A bank of the size and shape of a run's, and the seconds that solving it would take.

    Of all places of one shape only as many (place, step) pairs are solved as a run solves together: of one place.
    """
    if not tasks:
        return ProbeSet({}, {}), 0.0
    found: list[Probes] = []
    seconds = 0.0
    steps, device = study.config.probed_steps, study.device
    threads = study.threads if device == CPU else 1
    for jobs in _alike(folds[0], len(steps)):
        sample = jobs[: min(threads, len(steps))]
        few = cut(folds, {site for site, _ in sample})
        solve = partial(
            solve_sites, few, tasks, steps, {TRAINED}, threads, only=sample, device=device
        )
        if device != CPU and not found:
            # A card's libraries start at their first use.
            solve()
        solved, spent = timed(solve)
        seconds += spent / len(sample) * len(jobs)
        found.append({name: dict(_copies(solved[name], steps, sample[0], jobs)) for name in tasks})
    few = cut(folds, position_sites(folds[0], {TRAINED}))
    position, spent = timed(lambda: solve_position(few, tasks, {TRAINED}, device))
    return ProbeSet(united([*found, position], tasks), mean_maps(folds, tasks)), seconds + spent


def _copies(
    solved: Mapping[Cell, FittedProbe], steps: Sequence[int], one: _Job, jobs: Sequence[_Job]
) -> Iterator[tuple[Cell, FittedProbe]]:
    """The probes of one place and step, for all that are alike."""
    for cell, probe in solved.items():
        if ((cell.network, cell.layer), steps.index(cell.step)) == one:
            for (network, layer), at in jobs:
                yield replace(cell, network=network, layer=layer, step=steps[at]), probe


def bytes_of(sums: SufficientStatistics, only: Site | None = None) -> int:
    """Memory of the sums of any number of images, or of what they hold of one place."""
    return sum(
        moments.scatter.nbytes + moments.mean.nbytes
        for sites in (sums.moments, sums.pooled)
        for site, moments in sites.items()
        if only in (None, site)
    )


def _alike(sums: SufficientStatistics, steps: int) -> list[list[_Job]]:
    """All (place, index of step) pairs, those together that take as long to solve."""
    groups: dict[tuple[bool, Shape], list[_Job]] = defaultdict(list)
    for site, shape in sums.shapes.items():
        groups[site[0] == TRAINED, shape].extend((site, at) for at in range(steps))
    return list(groups.values())


def cut(
    folds: Sequence[SufficientStatistics], sites: Collection[Site]
) -> list[SufficientStatistics]:
    """The folds' sums with the moments of some places alone."""

    def kept(moments: Mapping[Site, Moments]) -> dict[Site, Moments]:
        return {site: own for site, own in moments.items() if site in sites}

    return [replace(sums, moments=kept(sums.moments), pooled=kept(sums.pooled)) for sums in folds]
