"""Apply solved probes to a block as it streams by, then score them or sweep their thresholds: the test reducers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.labels import Labels
from probes.blocks import Blocks
from probes.moments import CPU
from probes.position import position_columns
from probes.probe_set import (
    CEILING,
    FOREGROUND,
    MEAN_MAP,
    POSITION,
    Cell,
    ProbeSet,
    foreground_cell,
)
from probes.score import dice_foreground
from probes.task import Task

THRESHOLDS: tuple[float, ...] = tuple(round(0.02 * i, 2) for i in range(1, 50))
"""Candidates between the two values of a mask, 0 and 1, that least squares aims at."""


@dataclass(frozen=True, slots=True)
class _Readers:
    """Every probe that reads one place at one step, as one matrix: those of maps, or those of whole images."""

    pooled: bool
    """Whether they read the mean over an image's tokens."""
    weights: Float[Tensor, "c k"]
    offset: Float[Tensor, "t k"]
    """Intercepts, and what the position columns add at each token."""
    columns: tuple[tuple[str, Cell, slice], ...]


class Readout:
    """Reads one block with every probe of a bank; ``finish`` makes its predictions available per task.

    Predictions are computed on ``device`` and kept on the CPU.
    """

    def __init__(
        self, probe_set: ProbeSet, tasks: Mapping[str, Task], device: torch.device = CPU
    ) -> None:
        self.probe_set = probe_set
        self.tasks = tasks
        self.device = device
        self.cells = {name: probe_set.cells(name) for name in tasks}
        self._readers = _group(probe_set, tasks)
        self.predictions: dict[tuple[str, Cell], Float[Tensor, "n t k"]] = {}
        self._targets: dict[str, Tensor] = {}
        self.foreground = torch.empty(0, dtype=torch.float64)
        """Share of each image that the salient object covers."""

    def see(self, step: int, network: str, layer: str, activation: Float[Tensor, "n t c"]) -> None:
        """Predict from one activation."""
        here = self._readers.get((network, layer, step))
        if not here:
            return
        seen = activation.to(self.device).double()
        for readers in here:
            read = seen.mean(1, keepdim=True) if readers.pooled else seen
            values = (read @ readers.weights.to(self.device) + readers.offset.to(self.device)).cpu()
            for name, cell, part in readers.columns:
                self.predictions[name, cell] = values[..., part]

    def finish(self, labels: Labels) -> None:
        """Take the images' targets."""
        self._targets = {name: task.target(labels).double() for name, task in self.tasks.items()}
        self.foreground = labels.saliency.double().mean((-1, -2))

    def groups(self, name: str) -> Iterator[tuple[list[int], Float[Tensor, "p n k t"], Blocks]]:
        """The predictions of a task, cells of one grid together: (indices into ``cells``, predictions, target)."""
        cells, target = self.cells[name], self._targets[name]
        for side in sorted({cell.side for cell in cells}):
            blocks = Blocks(target, side)
            at = [index for index, cell in enumerate(cells) if cell.side == side]
            yield (
                at,
                torch.stack([self._prediction(name, cells[index], blocks) for index in at]),
                blocks,
            )

    def _prediction(self, name: str, cell: Cell, blocks: Blocks) -> Float[Tensor, "n k t"]:
        n = len(blocks.target)
        if cell.network == CEILING:
            return blocks.mean
        if cell.network == FOREGROUND:
            return torch.ones_like(blocks.mean)
        if cell.network == MEAN_MAP:
            return self.probe_set.mean_map[name].flatten(1).expand(n, -1, -1)
        if cell.network == POSITION:
            probe = self.probe_set.probes[name][cell]
            return (position_columns(cell.side) @ probe.weights + probe.intercept).mT.expand(
                n, -1, -1
            )
        return self.predictions[name, cell].mT

    def scores(self) -> dict[str, Float[Tensor, "cells metrics n"]]:
        """Every metric of every cell for every image of the block."""
        result = {}
        for name, task in self.tasks.items():
            cells = self.cells[name]
            known = self.probe_set.thresholds.get(name, {})
            thresholds = torch.tensor(
                [known.get(cell, torch.nan) for cell in cells], dtype=torch.float64
            )
            table = torch.empty(
                len(cells), len(task.metrics), len(self._targets[name]), dtype=torch.float64
            )
            for at, prediction, blocks in self.groups(name):
                for column, metric in enumerate(task.metrics):
                    table[at, column] = metric.compute(prediction, blocks, thresholds[at])
            result[name] = table
        return result

    def sweep(
        self, permutations: Sequence[Sequence[int]]
    ) -> dict[str, Float[Tensor, "cells candidates"]]:
        """Per thresholded task, the sum over images of Dice at every candidate threshold.

        A probe of permuted labels is held against the labels it would have been fit to: its control covers the
        choice of the threshold too.
        """
        result = {}
        for name, task in self.tasks.items():
            if task.thresholded:
                cells = self.cells[name]
                table = torch.empty(len(cells), len(THRESHOLDS), dtype=torch.float64)
                for at, prediction, blocks in self.groups(name):
                    for draw in sorted({cells[index].draw for index in at}):
                        rows = [row for row, index in enumerate(at) if cells[index].draw == draw]
                        seen = (
                            Blocks(blocks.target[list(permutations[draw - 1])], blocks.side)
                            if draw
                            else blocks
                        )
                        table[[at[row] for row in rows]] = _dice_at_thresholds(
                            prediction[rows], seen
                        )
                result[name] = table
        return result


def _dice_at_thresholds(
    prediction: Float[Tensor, "p n k t"], blocks: Blocks
) -> Float[Tensor, "p candidates"]:
    columns = []
    for candidate in THRESHOLDS:
        threshold = torch.full((len(prediction),), candidate, dtype=torch.float64)
        columns.append(dice_foreground(prediction, blocks, threshold).sum(-1))
    return torch.stack(columns, dim=-1)


def best_thresholds(
    probe_set: ProbeSet, swept: Mapping[str, Float[Tensor, "cells candidates"]]
) -> dict[str, dict[Cell, float]]:
    """The candidate of the best mean Dice for every cell, and one for the baseline that calls all foreground."""
    return {
        name: {
            cell: THRESHOLDS[int(row.argmax())]
            for cell, row in zip(probe_set.cells(name), table, strict=True)
        }
        | {foreground_cell(min(cell.side for cell in probe_set.cells(name))): THRESHOLDS[0]}
        for name, table in swept.items()
    }


def _group(
    probe_set: ProbeSet, tasks: Mapping[str, Task]
) -> dict[tuple[str, str, int], list[_Readers]]:
    members: dict[tuple[str, str, int, bool], list[tuple[str, Cell]]] = {}
    for name, task in tasks.items():
        for cell in probe_set.probes[name]:
            if cell.network != POSITION:
                members.setdefault(
                    (cell.network, cell.layer, cell.step, task.per_image), []
                ).append((name, cell))
    readers: dict[tuple[str, str, int], list[_Readers]] = {}
    for (network, layer, step, pooled), cells in members.items():
        position = position_columns(cells[0][1].side)
        solved = [probe_set.probes[name][cell] for name, cell in cells]
        channels = min(len(probe.weights) for probe in solved)
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
        readers.setdefault((network, layer, step), []).append(
            _Readers(pooled, weights, offset, tuple(columns))
        )
    return readers
