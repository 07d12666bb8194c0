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
from probes.probe_set import POSITION, WITH_POSITION, Cell, FittedProbe, ProbeSet
from probes.task import Task


class ProbesFit:
    """A reducer that reduces nothing, and raises UserError before probes read what does not fit."""

    def __init__(self, entry: Path, probe_set: ProbeSet, tasks: Mapping[str, Task]) -> None:
        self._entry, self._tasks = entry, tasks
        self._seen: set[tuple[str, str, int]] = set()
        self._probes: dict[tuple[str, str, int], list[tuple[str, Cell, FittedProbe]]] = {}
        for name in tasks:
            for cell, probe in probe_set.probes[name].items():
                site = cell.network, cell.layer, cell.step
                self._probes.setdefault(site, []).append((name, cell, probe))
        for (network, layer, _), probes in self._probes.items():
            channels = {_channels(cell, probe) for _, cell, probe in probes}
            if len(channels) > 1:
                raise self._error(
                    f"probe of {network} {layer} for {min(channels)} channels, and another for "
                    f"{max(channels)}"
                )

    def update(self, step: int, network: str, layer: str, activation: Tensor, grid: Grid) -> None:
        """Compare the probes of a layer with what it holds."""
        site = network, layer, step
        self._seen.add(site)
        for name, cell, probe in self._probes.get(site, ()):
            channels = _channels(cell, probe)
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
        for site, probes in self._probes.items():
            network, layer, step = site
            for name, cell, probe in probes:
                if probe.weights.shape[1] != widths[name]:
                    raise self._error(
                        f"probe of {name} with {probe.weights.shape[1]} outputs, where the task "
                        f"has {widths[name]}"
                    )
                if network == POSITION and len(probe.weights) != _position_columns(cell):
                    raise self._error(f"probe of {name} of positions that is of something else")
            if network != POSITION and site not in self._seen:
                raise self._error(
                    f"cell of {network} {layer} step {number_of(step)}, which its run does not "
                    "record"
                )

    def _error(self, what: str) -> UserError:
        return UserError(f"{self._entry} has a {what}; submit its run again")


def _channels(cell: Cell, probe: FittedProbe) -> int:
    """The channels of its layer that a probe reads, without the columns of the position."""
    return len(probe.weights) - (_position_columns(cell) if cell.probe == WITH_POSITION else 0)


def _position_columns(cell: Cell) -> int:
    return position_columns(cell.grid).shape[1]
