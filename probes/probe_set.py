"""The probes of a run by cell, and their storage as named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.grid import Grid

POSITION, MEAN_MAP, CEILING, FOREGROUND = "position", "mean map", "ceiling", "all foreground"
"""Pseudo-networks of the baselines that read no activations.

They predict from the token's position, by the mean training target (the majority of classes), by
the block means of the target itself, and all foreground.
"""
ALWAYS = -1
"""The step of a cell that is the same at all steps."""

ACTIVATIONS, WITH_POSITION, PERMUTED, EQUAL_WIDTH, STANDARDISED = (
    "activations",
    "activations+position",
    "permuted",
    "equal width",
    "standardised",
)
"""The kinds of probes.

``permuted`` probes are fit to the labels of other images. ``equal width`` probes use as many random
directions of the activations as the narrowest layer has channels; that layer has no such probe.
``standardised`` probes, which are fit on request, use channels of unit variance.
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One probe: its network, layer, step (0 to T-1, or ``ALWAYS``), kind and permutation."""

    network: str
    layer: str
    step: int
    probe: str
    """The kind, such as ``ACTIVATIONS``."""
    draw: int
    """The permutation of the labels; 0 for the true labels."""
    grid: Grid
    """Of the tokens; 1 x 1 for a task of whole images."""


@dataclass(frozen=True, slots=True)
class FittedProbe:
    """The solved probe of one task and cell."""

    weights: Float[Tensor, "f k"]
    """Of the activations, then (for ``activations+position``) of the position features."""
    intercept: Float[Tensor, " k"]
    penalty: float
    """Relative penalty chosen by cross-validation; the largest over channels."""
    at_edge: bool
    """Whether the penalty of any channel is at an end of the grid."""
    cv_loss: float
    """Cross-validated mean squared error at full resolution."""
    pattern: Float[Tensor, "f k"] | None = None
    """The activation pattern, for edits; only of networks with probes of permuted labels."""


Probes = dict[str, dict[Cell, FittedProbe]]
"""Per task."""


@dataclass(frozen=True)
class ProbeSet:
    """The probes of every cell, per task, with the mean maps and thresholds."""

    probes: Probes
    mean_map: dict[str, Float[Tensor, "_k _h _w"]]
    """Per task, the mean training target."""
    thresholds: dict[str, dict[Cell, float]] = field(default_factory=dict)
    """Per thresholded task and cell; chosen on training images only."""

    def cells(self, task: str) -> tuple[Cell, ...]:
        """Every cell of a task, baselines last."""
        solved = tuple(self.probes[task])
        grids = sorted({cell.grid for cell in solved})
        return (
            *solved,
            *(baseline_cell(CEILING, grid) for grid in grids),
            baseline_cell(MEAN_MAP, Grid(*self.mean_map[task].shape[-2:])),
            *([baseline_cell(FOREGROUND, grids[0])] if task in self.thresholds else []),
        )

    def best(self, task: str, network: str, step: int, probe: str) -> Cell:
        """The cell of the layer with the least cross-validated loss on the training images.

        A loss of nan counts as the worst.
        """
        cells = [
            c for c in self.probes[task] if (c.network, c.step, c.probe) == (network, step, probe)
        ]

        def loss(cell: Cell) -> tuple[bool, float]:
            value = self.probes[task][cell].cv_loss
            return isnan(value), value

        return min(cells, key=loss)


def with_readings(
    probe_set: ProbeSet, network: str, layers: Sequence[str], steps: Sequence[int]
) -> ProbeSet:
    """Add a cell per layer and step of a network whose activations are label maps themselves.

    There is a token per pixel. The channels are the targets of the tasks of maps, in the order of
    their names. Nothing is fit, so the loss is nan.
    """
    maps = sorted(name for name, target in probe_set.mean_map.items() if target.shape[-1] > 1)
    start, total = 0, sum(probe_set.mean_map[name].shape[0] for name in maps)
    probes, thresholds = dict(probe_set.probes), dict(probe_set.thresholds)
    for name in maps:
        width, *size = probe_set.mean_map[name].shape
        weights = torch.eye(total, dtype=torch.float64)[:, start : start + width]
        start += width
        no_intercept = torch.zeros(width, dtype=torch.float64)
        identity = FittedProbe(weights, no_intercept, 0.0, False, float("nan"))
        cells = [
            Cell(network, layer, step, ACTIVATIONS, 0, Grid(*size))
            for step in steps
            for layer in layers
        ]
        probes[name] = probes[name] | dict.fromkeys(cells, identity)
        if name in thresholds:
            # Any threshold between the two values of a mask returns the mask.
            thresholds[name] = thresholds[name] | dict.fromkeys(cells, 0.5)
    return replace(probe_set, probes=probes, thresholds=thresholds)


def baseline_cell(name: str, grid: Grid) -> Cell:
    """The cell of a baseline that reads no activations, on a grid of tokens."""
    return Cell(name, str(grid), ALWAYS, name, 0, grid)


def united(parts: Iterable[Probes], tasks: Sequence[str]) -> Probes:
    """Join the probes of several sites, in the given order."""
    joined: Probes = {name: {} for name in tasks}
    for part in parts:
        for name in tasks:
            joined[name] |= part[name]
    return joined


def tensors_of(probes: Probes) -> dict[str, Tensor]:
    """Probes as named tensors, for a file; those that differ only by step and draw are stacked.

    The number of each cell is stored to keep the order of the cells, as a file does not.
    """
    stacks: dict[str, list[tuple[int, Cell, FittedProbe]]] = {}
    for task, solved in probes.items():
        for number, (cell, probe) in enumerate(solved.items()):
            stem = f"{task}/{cell.network}/{cell.layer}/{cell.probe}/{cell.grid.key}"
            stacks.setdefault(stem, []).append((number, cell, probe))
    flat = {}
    for stem, entries in stacks.items():
        flat[f"{stem}/cells"] = torch.tensor(
            [[number, cell.step, cell.draw] for number, cell, _ in entries]
        )
        choices = [[probe.penalty, float(probe.at_edge), probe.cv_loss] for _, _, probe in entries]
        flat[f"{stem}/choices"] = torch.tensor(choices, dtype=torch.float64)
        flat[f"{stem}/weights"] = torch.stack([probe.weights for _, _, probe in entries])
        flat[f"{stem}/intercepts"] = torch.stack([probe.intercept for _, _, probe in entries])
        patterns = [probe.pattern for _, _, probe in entries if probe.pattern is not None]
        if patterns:
            flat[f"{stem}/patterns"] = torch.stack(patterns)
    return flat


def probes_of(flat: Mapping[str, Tensor], tasks: Sequence[str]) -> Probes:
    """Invert :func:`tensors_of`, ignoring other tensors."""
    numbered: dict[str, dict[int, tuple[Cell, FittedProbe]]] = {name: {} for name in tasks}
    for name, cells in flat.items():
        stem, _, part = name.rpartition("/")
        if part == "cells":
            task, network, layer, probe, grid = stem.split("/")
            choices, patterns = flat[f"{stem}/choices"].tolist(), flat.get(f"{stem}/patterns")
            for index, (number, step, draw) in enumerate(cells.tolist()):
                penalty, at_edge, cv_loss = choices[index]
                numbered[task][number] = (
                    Cell(network, layer, step, probe, draw, Grid.parse(grid)),
                    FittedProbe(
                        weights=flat[f"{stem}/weights"][index],
                        intercept=flat[f"{stem}/intercepts"][index],
                        penalty=penalty,
                        at_edge=bool(at_edge),
                        cv_loss=cv_loss,
                        pattern=None if patterns is None else patterns[index],
                    ),
                )
    return {
        task: dict(cells_of_task[number] for number in sorted(cells_of_task))
        for task, cells_of_task in numbered.items()
    }
