"""The probes of a run: what a cell is, what was solved for it, and how both are kept in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

POSITION, MEAN_MAP, CEILING, FOREGROUND = "position", "mean map", "ceiling", "all foreground"
"""Networks that are none: predictions from the token's place, the mean training target (of classes: the majority), the
target's block means, and a mask of everything."""
ALWAYS = -1
"""The step of a cell that does not depend on the step."""

ACTIVATIONS, WITH_POSITION, PERMUTED, EQUAL_WIDTH = (
    "activations",
    "activations+position",
    "permuted",
    "equal width",
)
"""What a probe reads; ``permuted`` reads the activations and was fit to other images' labels, ``equal width`` reads
as many random directions of the activations as the narrowest layer has channels (which needs no such probe)."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One probe: where it reads, at which step (0 to T-1, or ``ALWAYS``), and of which kind and draw it is."""

    network: str
    layer: str
    step: int
    probe: str
    draw: int
    side: int
    """Tokens along one side; 1 for a task of whole images."""


@dataclass(frozen=True, slots=True)
class FittedProbe:
    """The probes of one task at one place and step for one cell."""

    weights: Float[Tensor, "f k"]
    """On the activations, then (for ``activations+position``) on the position columns."""
    intercept: Float[Tensor, " k"]
    penalty: float
    """Relative penalty that cross-validation chose; the largest over channels."""
    at_edge: bool
    cv_loss: float
    """Cross-validated mean squared error at full resolution."""
    pattern: Float[Tensor, "f k"] | None = None
    """How the activations vary with what is read, for edits; of networks that have probes of permuted labels."""


Probes = dict[str, dict[Cell, FittedProbe]]
"""Per task."""


@dataclass(frozen=True)
class ProbeSet:
    """The probes of every cell, per task, with what the baselines need."""

    probes: Probes
    mean_map: dict[str, Float[Tensor, "_k _h _w"]]
    thresholds: dict[str, dict[Cell, float]] = field(default_factory=dict)
    """Per thresholded task; chosen on training images only."""

    def cells(self, task: str) -> tuple[Cell, ...]:
        """Every cell of a task, baselines last."""
        solved = tuple(self.probes[task])
        sides = sorted({cell.side for cell in solved})
        full = self.mean_map[task].shape[-1]
        return (
            *solved,
            *(Cell(CEILING, f"{side}x{side}", ALWAYS, CEILING, 0, side) for side in sides),
            Cell(MEAN_MAP, f"{full}x{full}", ALWAYS, MEAN_MAP, 0, full),
            *([foreground_cell(sides[0])] if task in self.thresholds else []),
        )

    def best(self, task: str, network: str, step: int, probe: str) -> Cell:
        """The layer with the least cross-validated loss on the training images."""
        baselines = [
            c for c in self.probes[task] if (c.network, c.step, c.probe) == (network, step, probe)
        ]
        return min(baselines, key=lambda cell: self.probes[task][cell].cv_loss)


def with_readings(
    probe_set: ProbeSet, network: str, layers: Sequence[str], steps: Sequence[int]
) -> ProbeSet:
    """The bank with a cell per layer and step whose activations are the answer itself, pixel by pixel.

    Their channels are the targets of the tasks of maps, in the order of their names; nothing is fit: the loss is nan.
    """
    maps = sorted(name for name, target in probe_set.mean_map.items() if target.shape[-1] > 1)
    start, total = 0, sum(probe_set.mean_map[name].shape[0] for name in maps)
    probes, thresholds = dict(probe_set.probes), dict(probe_set.thresholds)
    for name in maps:
        width, side = probe_set.mean_map[name].shape[0], probe_set.mean_map[name].shape[-1]
        weights = torch.eye(total, dtype=torch.float64)[:, start : start + width]
        start += width
        reading = FittedProbe(
            weights, torch.zeros(width, dtype=torch.float64), 0.0, False, float("nan")
        )
        cells = [
            Cell(network, layer, step, ACTIVATIONS, 0, side) for step in steps for layer in layers
        ]
        probes[name] = probes[name] | dict.fromkeys(cells, reading)
        if name in thresholds:
            # A mask needs no threshold to be found: any between its two values gives it back.
            thresholds[name] = thresholds[name] | dict.fromkeys(cells, 0.5)
    return replace(probe_set, probes=probes, thresholds=thresholds)


def foreground_cell(side: int) -> Cell:
    """The baseline of a task of masks; any grid will do, as the same is predicted everywhere."""
    return Cell(FOREGROUND, f"{side}x{side}", ALWAYS, FOREGROUND, 0, side)


def united(parts: Iterable[Probes], tasks: Sequence[str]) -> Probes:
    """The probes of several places, in their order."""
    found: Probes = {name: {} for name in tasks}
    for part in parts:
        for name in tasks:
            found[name] |= part[name]
    return found


def tensors_of(probes: Probes) -> dict[str, Tensor]:
    """Probes as named tensors, for a file: those that differ by step and draw alone are stacked.

    Cells are numbered, as they have an order and the tensors of a file have none.
    """
    stacks: dict[str, list[tuple[int, Cell, FittedProbe]]] = {}
    for task, solved in probes.items():
        for number, (cell, probe) in enumerate(solved.items()):
            stem = f"{task}/{cell.network}/{cell.layer}/{cell.probe}/{cell.side}"
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
    """Undo :func:`tensors_of`; other tensors may lie beside them."""
    found: dict[str, dict[int, tuple[Cell, FittedProbe]]] = {name: {} for name in tasks}
    for name, cells in flat.items():
        stem, _, part = name.rpartition("/")
        if part == "cells":
            task, network, layer, probe, side = stem.split("/")
            choices, patterns = flat[f"{stem}/choices"].tolist(), flat.get(f"{stem}/patterns")
            for at, (number, step, draw) in enumerate(cells.tolist()):
                penalty, at_edge, cv_loss = choices[at]
                found[task][number] = (
                    Cell(network, layer, step, probe, draw, int(side)),
                    FittedProbe(
                        weights=flat[f"{stem}/weights"][at],
                        intercept=flat[f"{stem}/intercepts"][at],
                        penalty=penalty,
                        at_edge=bool(at_edge),
                        cv_loss=cv_loss,
                        pattern=None if patterns is None else patterns[at],
                    ),
                )
    return {task: dict(numbered[at] for at in sorted(numbered)) for task, numbered in found.items()}
