"""How long solving will take, from a few places of every size; what they give stands in for all places of that size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from bench.measure import timed
from extract.names import TRAINED
from probes.bank import POSITION, Bank, Cell, Solved, solve_bank
from probes.gather import Place, Sums, total_sums
from probes.sums import Moments

_Job = tuple[Place, int]


def sampled_bank(folds: Sequence[Sums], tasks: Sequence[str], steps: Sequence[int], threads: int) -> tuple[Bank, float]:
    """A bank of the size and shape of ``solve_bank``'s, and the seconds that one would take.

    Of all places with as many columns and tokens, only as many (place, step) pairs are solved as there are threads.
    """
    if not tasks:
        return Bank({}, {}), 0.0
    everything, seconds = timed(lambda: total_sums(folds))
    probes: dict[str, dict[Cell, Solved]] = {name: {} for name in tasks}
    for jobs in _alike(everything, len(steps)):
        sample = jobs[:threads]
        places = {place for place, _ in sample} | _narrowest(everything)
        few = [_cut(sums, places) for sums in folds]
        bank, spent = timed(lambda: solve_bank(few, tasks, steps, {TRAINED}, threads, only=sample))  # noqa: B023
        seconds += spent / len(sample) * len(jobs)
        for name in tasks:
            for cell, probe in bank.probes[name].items():
                if cell.network == POSITION:
                    probes[name][cell] = probe
                elif _job(cell, steps) == sample[0]:
                    for (network, layer), at in jobs:
                        probes[name][replace(cell, network=network, layer=layer, step=steps[at])] = probe
    return Bank(probes, {name: everything.target[name] / everything.pictures for name in tasks}), seconds


def bytes_of(sums: Sums) -> int:
    """Memory of the sums of any number of pictures."""
    return sum(m.scatter.nbytes + m.mean.nbytes for places in (sums.moments, sums.pooled) for m in places.values())


def _alike(sums: Sums, steps: int) -> list[list[_Job]]:
    """All (place, index of step) pairs, those together that take as long to solve."""
    groups: dict[tuple[bool, int, int], list[_Job]] = defaultdict(list)
    for place, moments in (sums.moments or sums.pooled).items():
        groups[place[0] == TRAINED, moments.columns, moments.n].extend((place, at) for at in range(steps))
    return list(groups.values())


def _narrowest(sums: Sums) -> set[Place]:
    """The place whose width decides that of the probes of equal width."""
    widths = {place: m.columns for place, m in (sums.moments or sums.pooled).items() if place[0] == TRAINED}
    return {min(widths, key=lambda place: widths[place])}


def _cut(sums: Sums, places: Collection[Place]) -> Sums:
    def kept(moments: Mapping[Place, Moments]) -> dict[Place, Moments]:
        return {place: own for place, own in moments.items() if place in places}

    return replace(sums, moments=kept(sums.moments), pooled=kept(sums.pooled))


def _job(cell: Cell, steps: Sequence[int]) -> _Job:
    return (cell.network, cell.layer), steps.index(cell.step)
