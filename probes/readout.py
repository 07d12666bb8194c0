"""Apply solved probes to a block of activations, score them, and sweep their thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.grid import Grid
from datasets.labels import Labels
from probes.blocks import Blocks, Ranks
from probes.moments import CPU
from probes.position import position_columns
from probes.probe_set import (
    CEILING,
    FOREGROUND,
    MEAN_MAP,
    POSITION,
    WITH_POSITION,
    Cell,
    ProbeSet,
    baseline_cell,
)
from probes.score import dice_foreground
from probes.task import Task

THRESHOLDS: tuple[float, ...] = tuple(round(0.02 * i, 2) for i in range(1, 50))
"""Candidate thresholds, between the two values 0 and 1 of a mask as the target."""


@dataclass(frozen=True, slots=True)
class _ProbeGroup:
    """All probes of one site and step as one matrix, either of maps or of whole images."""

    pooled: bool
    """Whether they read the mean activation over an image's tokens."""
    weights: Float[Tensor, "c k"]
    offset: Float[Tensor, "t k"]
    """Intercepts plus, at each token, the contribution of its position."""
    columns: tuple[tuple[str, Cell, slice], ...]
    """Task, cell and columns of each probe."""


Groups = dict[tuple[str, str, int], list[_ProbeGroup]]
"""By network, layer and step."""


class Readout:
    """Apply every probe of a probe set to one block; scores are available after :meth:`finish`.

    Predictions and scores are computed on ``device`` and stay there. ``groups`` are those of
    :func:`grouped_probes`, which several readouts of the same probes can share.
    """

    def __init__(
        self,
        probe_set: ProbeSet,
        tasks: Mapping[str, Task],
        device: torch.device = CPU,
        groups: Groups | None = None,
    ) -> None:
        self.probe_set = probe_set
        self.tasks = tasks
        self.device = device
        self.cells = {name: probe_set.cells(name) for name in tasks}
        self._groups = grouped_probes(probe_set, tasks, device) if groups is None else groups
        self.predictions: dict[tuple[str, Cell], Float[Tensor, "n t k"]] = {}
        self._targets: dict[str, Ranks] = {}
        self.foreground = torch.empty(0, dtype=torch.float64)
        """Share of each image that the salient object covers."""

    def update(
        self,
        step: int,
        network: str,
        layer: str,
        activation: Float[Tensor, "n t c"],
        grid: Grid,
    ) -> None:
        """Predict from one activation, with the probes of its site and step."""
        groups = self._groups.get((network, layer, step))
        if not groups:
            return
        tokens = activation.to(self.device).double()
        for group in groups:
            features = tokens.mean(1, keepdim=True) if group.pooled else tokens
            values = features @ group.weights + group.offset
            for name, cell, part in group.columns:
                self.predictions[name, cell] = values[..., part]

    def finish(self, labels: Labels) -> None:
        """Compute the targets of the images."""
        self._targets = {
            name: Ranks(self._sent(task.target(labels)).double())
            for name, task in self.tasks.items()
        }
        self.foreground = labels.saliency.double().mean((-1, -2))

    def groups(self, name: str) -> Iterator[tuple[list[int], Float[Tensor, "p n k t"], Blocks]]:
        """Per grid of a task's cells: (indices into ``cells``, predictions, target)."""
        cells, target = self.cells[name], self._targets[name]
        for grid in sorted({cell.grid for cell in cells}):
            blocks = Blocks(target.target, grid, target)
            indices = [index for index, cell in enumerate(cells) if cell.grid == grid]
            predictions = [self._prediction(name, cells[index], blocks) for index in indices]
            yield indices, torch.stack(predictions), blocks

    def _prediction(self, name: str, cell: Cell, blocks: Blocks) -> Float[Tensor, "n k t"]:
        n = len(blocks.target)
        if cell.network == CEILING:
            return blocks.mean
        if cell.network == FOREGROUND:
            return torch.ones_like(blocks.mean)
        if cell.network == MEAN_MAP:
            return self._sent(self.probe_set.mean_map[name]).flatten(1).expand(n, -1, -1)
        if cell.network == POSITION:
            probe = self.probe_set.probes[name][cell]
            prediction = position_columns(cell.grid) @ probe.weights + probe.intercept
            return self._sent(prediction).mT.expand(n, -1, -1)
        return self.predictions[name, cell].mT

    def _sent(self, value: Tensor) -> Tensor:
        return value.to(self.device, non_blocking=True)

    def scores(self) -> dict[str, Float[Tensor, "cells metrics n"]]:
        """Per task, every metric of every cell for every image of the block."""
        result = {}
        for name, task in self.tasks.items():
            cells = self.cells[name]
            of_cell = self.probe_set.thresholds.get(name, {})
            order, tables = [], []
            for indices, prediction, blocks in self.groups(name):
                thresholds = self._sent(
                    torch.tensor(
                        [of_cell.get(cells[index], torch.nan) for index in indices],
                        dtype=torch.float64,
                    )
                )
                scores = [metric.compute(prediction, blocks, thresholds) for metric in task.metrics]
                order += indices
                tables.append(torch.stack(scores, dim=1))
            result[name] = self._in_order(order, tables)
        return result

    def _in_order(self, order: Sequence[int], tables: Sequence[Tensor]) -> Tensor:
        """Join rows whose places are ``order``."""
        joined = torch.cat(list(tables))
        places = self._sent(torch.tensor(order))
        return torch.empty_like(joined).index_copy_(0, places, joined)

    def sweep(
        self, permutations: Sequence[Sequence[int]]
    ) -> dict[str, Float[Tensor, "cells candidates"]]:
        """Per thresholded task, the sum over images of Dice at every candidate threshold.

        A probe of permuted labels is scored against the labels permuted in the same way, so the
        control includes the choice of the threshold.
        """
        result = {}
        for name, task in self.tasks.items():
            if not task.thresholded:
                continue
            cells = self.cells[name]
            order, tables = [], []
            for indices, predictions, blocks in self.groups(name):
                draws = [cells[index].draw for index in indices]
                for draw in sorted(set(draws)):
                    rows = [row for row, other in enumerate(draws) if other == draw]
                    target = blocks
                    if draw:
                        images = self._sent(torch.tensor(permutations[draw - 1]))
                        target = Blocks(blocks.target[images], blocks.grid)
                    chosen = torch.stack([predictions[row] for row in rows])
                    order += [indices[row] for row in rows]
                    tables.append(_dice_at_thresholds(chosen, target))
            result[name] = self._in_order(order, tables)
        return result


def _dice_at_thresholds(
    prediction: Float[Tensor, "p n k t"], blocks: Blocks
) -> Float[Tensor, "p candidates"]:
    columns = []
    for candidate in THRESHOLDS:
        threshold = prediction.new_full((len(prediction),), candidate)
        columns.append(dice_foreground(prediction, blocks, threshold).sum(-1))
    return torch.stack(columns, dim=-1)


def best_thresholds(
    probe_set: ProbeSet, swept: Mapping[str, Float[Tensor, "cells candidates"]]
) -> dict[str, dict[Cell, float]]:
    """Every cell's candidate with the best mean Dice, and one for the all-foreground baseline."""
    return {
        name: {
            cell: THRESHOLDS[int(row.argmax())]
            for cell, row in zip(probe_set.cells(name), table, strict=True)
        }
        | {baseline_cell(FOREGROUND, min(c.grid for c in probe_set.cells(name))): THRESHOLDS[0]}
        for name, table in swept.items()
    }


def grouped_probes(probe_set: ProbeSet, tasks: Mapping[str, Task], device: torch.device) -> Groups:
    """The probes of every network, layer and step as matrices on ``device``."""
    members: dict[tuple[str, str, int, bool], list[tuple[str, Cell]]] = {}
    for name, task in tasks.items():
        for cell in probe_set.probes[name]:
            if cell.network != POSITION:
                members.setdefault(
                    (cell.network, cell.layer, cell.step, task.per_image), []
                ).append((name, cell))
    groups: Groups = {}
    for (network, layer, step, pooled), cells in members.items():
        position = position_columns(cells[0][1].grid)
        solved = [probe_set.probes[name][cell] for name, cell in cells]
        first = cells[0][1]
        columns_of_position = position.shape[1] if first.probe == WITH_POSITION else 0
        channels = len(solved[0].weights) - columns_of_position
        offset = torch.cat(
            [
                position @ probe.weights[channels:] + probe.intercept
                if len(probe.weights) > channels
                else probe.intercept.expand(len(position), -1)
                for probe in solved
            ],
            dim=-1,
        )
        columns, start = [], 0
        for (name, cell), probe in zip(cells, solved, strict=True):
            width = probe.weights.shape[1]
            columns.append((name, cell, slice(start, start + width)))
            start += width
        weights = torch.cat([probe.weights[:channels] for probe in solved], dim=1)
        groups.setdefault((network, layer, step), []).append(
            _ProbeGroup(pooled, weights.to(device), offset.to(device), tuple(columns))
        )
    return groups
