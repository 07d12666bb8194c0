"""What all sites share when their probes are solved: statistics, columns, folds and device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datasets.grid import WHOLE, Grid
from probes.moments import CPU, Moments
from probes.position import position_columns
from probes.probe_set import PERMUTED, Cell, FittedProbe
from probes.ridge import PENALTIES, Decompose, Fit, Problem, every_time, fit_all
from probes.statistics import Columns, Site, SufficientStatistics, total_sums

Entry = tuple[str, Cell, FittedProbe]
"""(task, cell, probe)."""


@dataclass(frozen=True, slots=True)
class Context:
    """The statistics that all sites share, of tasks that are all of maps or all of whole images."""

    folds: Sequence[SufficientStatistics]
    total: SufficientStatistics
    tasks: tuple[str, ...]
    has_position: bool
    """Whether the tasks are of maps, whose tokens have a position."""
    device: torch.device
    """The device on which probes are fit."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites with moments."""
        return tuple(self.total.moments)

    def columns(self, site: Site) -> Columns:
        """The columns of a site's moments."""
        widths = {name: target.shape[0] for name, target in sorted(self.total.target.items())}
        position = position_columns(self.grid(site)).shape[1] if self.has_position else 0
        return Columns(self.total.shapes[site].channels, position, widths, self.total.draws)

    def grid(self, site: Site) -> Grid:
        """The tokens of a site; a single one for whole images."""
        return self.total.shapes[site].grid if self.has_position else WHOLE

    def within(self, task: str, grid: Grid) -> Tensor:
        """Mean over folds of the mean variance inside blocks, per channel."""
        return torch.stack([sums.within[task, grid] / sums.images for sums in self.folds]).mean(0)

    def groups(self, task_draws: Sequence[tuple[str, int]], columns: Columns) -> Tensor | None:
        """The groups of targets that share a penalty; None if every target has its own.

        The classes of a task of whole images share one, so their predictions are comparable.
        """
        if self.has_position:
            return None
        return torch.cat(
            [
                torch.full((columns.widths[task],), group)
                for group, (task, _) in enumerate(task_draws)
            ]
        )

    def fit(
        self,
        folds: Sequence[Moments],
        features: Tensor,
        problems: Sequence[Problem],
        decomposing: Decompose = every_time,
        standardised: bool = False,
    ) -> list[Fit]:
        """Fit on :attr:`device`; the moments and the results are on the CPU."""
        there = [moments.to(self.device) for moments in folds]
        fits = fit_all(
            there, features, problems, decomposing=decomposing, standardised=standardised
        )
        return [result.cpu() for result in fits]

    def named(
        self,
        cell: Cell,
        task_draws: Sequence[tuple[str, int]],
        columns: Columns,
        solved: Fit,
    ) -> Iterator[Entry]:
        """Split the solution for many targets into one entry per (task, draw)."""
        start = 0
        for task, draw in task_draws:
            part = slice(start, start + columns.widths[task])
            start = part.stop
            within = self.within(task, cell.grid)
            probe = PERMUTED if draw else cell.probe
            yield (
                task,
                replace(cell, probe=probe, draw=draw),
                FittedProbe(
                    weights=solved.weights[:, part].clone(memory_format=torch.contiguous_format),
                    intercept=solved.intercept[part],
                    penalty=PENALTIES[int(solved.penalty_index[part].max())],
                    at_edge=bool(solved.at_edge[part].any()),
                    # Token-level loss and variance inside blocks sum to the loss over pixels.
                    cv_loss=float((solved.chosen_loss[part] + within).mean()),
                ),
            )


def contexts(
    folds: Sequence[SufficientStatistics], tasks: Sequence[str], device: torch.device = CPU
) -> Iterator[Context]:
    """The context of the named tasks of maps, then that of the named tasks of whole images."""
    total = total_sums(folds)
    for of_images in (False, True):
        names = tuple(name for name in tasks if total.is_of_images(name) is of_images)
        if names:
            parts = [sums.only(of_images) for sums in folds]
            yield Context(parts, total.only(of_images), names, not of_images, device)
