"""Refuse cells and probes of an entry that are not of the layers that its run reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bench.errors import UserError
from bench.steps import number_of
from datasets.grid import Grid
from datasets.labels import Labels
from probes.position import position_columns
from probes.probe_set import POSITION, WITH_POSITION, Cell, ProbeSet
from probes.task import Task


class ProbesFit:
    """A reducer that reduces nothing, and raises UserError before probes read what does not fit."""

    def __init__(self, entry: Path, probe_set: ProbeSet, tasks: Mapping[str, Task]) -> None:
        self._entry, self._tasks = entry, tasks
        self._seen: set[tuple[str, str, int]] = set()
        self._probes = [
            (name, cell, probe) for name in tasks for cell, probe in probe_set.probes[name].items()
        ]
        channels: dict[tuple[str, str, int], int] = {}
        for name, cell, probe in self._probes:
            here = len(probe.weights) - _position_columns(cell)
            other = channels.setdefault(_site(cell), here)
            if here != other:
                raise self._error(
                    f"probe of {name} of {cell.network} {cell.layer} for {here} channels, and "
                    f"another for {other}"
                )

    def update(self, step: int, network: str, layer: str, activation: Tensor, grid: Grid) -> None:
        """Compare the probes of a layer with what it holds."""
        site = network, layer, step
        self._seen.add(site)
        for name, cell, probe in self._probes:
            if _site(cell) != site:
                continue
            channels = len(probe.weights) - _position_columns(cell)
            # A probe of whole images reads the mean over tokens.
            tokens = grid if self._tasks[name].per_image else cell.grid
            if (channels, tokens) != (activation.shape[-1], grid):
                raise self._error(
                    f"probe of {name} of {network} {layer} for {channels} channels on {tokens} "
                    f"tokens, and the layer has {activation.shape[-1]} on {grid}"
                )

    def finish(self, labels: Labels) -> None:
        """Compare probes with their targets, and name a cell for which no layer was read."""
        widths = {name: task.target(labels).shape[1] for name, task in self._tasks.items()}
        for name, cell, probe in self._probes:
            if probe.weights.shape[1] != widths[name]:
                raise self._error(
                    f"probe of {name} with {probe.weights.shape[1]} outputs, where the task has "
                    f"{widths[name]}"
                )
            if cell.network == POSITION:
                if len(probe.weights) != position_columns(cell.grid).shape[1]:
                    raise self._error(f"probe of {name} of positions that is of something else")
            elif _site(cell) not in self._seen:
                raise self._error(
                    f"cell of {cell.network} {cell.layer} step {number_of(cell.step)}, which its "
                    "run does not record"
                )

    def _error(self, what: str) -> UserError:
        return UserError(f"{self._entry} has a {what}; submit its run again")


def _site(cell: Cell) -> tuple[str, str, int]:
    return cell.network, cell.layer, cell.step


def _position_columns(cell: Cell) -> int:
    return position_columns(cell.grid).shape[1] if cell.probe == WITH_POSITION else 0
