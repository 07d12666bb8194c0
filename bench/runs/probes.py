"""Read the probes that a run has stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.errors import UserError
from bench.runs.folder import refuse_changed
from bench.runs.results import PROBES, Results, probe_name
from extract.networks import TRAINED
from probes.edit import Probe
from probes.probe_set import ACTIVATIONS, ALWAYS, PERMUTED, Cell, FittedProbe, ProbeSet


def read_probes(results: Results, prefix: str = "") -> dict[str, Tensor]:
    """Return the stored tensors whose name has the prefix. Raises UserError if they changed."""
    try:
        refuse_changed(results.path, results.record, (PROBES,))
        with safe_open(results.path / PROBES, framework="pt") as stored:
            selected = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name: stored.get_tensor(name) for name in selected}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot read the probes of {results.path} ({error}); run it again"
        ) from error


def stored_probe_set(results: Results, height: int, width: int) -> ProbeSet:
    """Return all probes of the trained network's activations, for images of a size in pixels."""
    cells = {
        name: [
            cell
            for cell in task.cells
            if cell.network == TRAINED and cell.draw == 0 and cell.step != ALWAYS
        ]
        for name, task in results.tasks.items()
    }
    return chosen_probe_set(results, cells, height, width)


def chosen_probe_set(
    results: Results, cells: Mapping[str, Sequence[Cell]], height: int, width: int
) -> ProbeSet:
    """Return the stored probes of some cells per task, for images of a size in pixels."""
    tensors = read_probes(results)
    probes: dict[str, dict[Cell, FittedProbe]] = {}
    thresholds: dict[str, dict[Cell, float]] = {}
    mean_map: dict[str, Tensor] = {}
    for name, chosen in cells.items():
        task = results.tasks[name]
        probes[name] = {cell: _fitted(tensors, name, cell) for cell in chosen}
        thresholds[name] = {cell: float(task.thresholds[task.row(cell)]) for cell in chosen}
        outputs = len(next(iter(probes[name].values())).intercept)
        # A probe set also scores this baseline, which nobody reads here.
        mean_map[name] = torch.zeros(outputs, height, width, dtype=torch.float64)
    return ProbeSet(probes, mean_map, thresholds)


def _fitted(tensors: Mapping[str, Tensor], task: str, cell: Cell) -> FittedProbe:
    stem = probe_name(task, cell)
    try:
        weights, intercept = tensors[f"{stem}/weights"], tensors[f"{stem}/intercept"]
    except KeyError as error:
        raise UserError(f"the run's probes lack {error}; make the run again") from error
    nan = float("nan")
    return FittedProbe(weights, intercept, penalty=nan, at_edge=False, cv_loss=nan)


class StoredProbes:
    """The probes of one task that a run has stored."""

    def __init__(self, results: Results, task: str) -> None:
        if task not in results.tasks:
            raise UserError(
                f"{results.path} has no probes of {task!r}; it has {', '.join(results.tasks)}"
            )
        self.task = results.tasks[task]
        tensors = read_probes(results, f"{task}/{TRAINED}/")
        self._tensors = {name: tensor.float() for name, tensor in tensors.items()}
        self.get = cache(self._get)

    def cell(self, layer: str, step: int, draw: int = 0) -> Cell:
        """Return the cell of a probe; draw 0 is fitted to the true labels."""
        probe = PERMUTED if draw else ACTIVATIONS
        (cell,) = self.task.where(network=TRAINED, layer=layer, step=step, probe=probe, draw=draw)
        return cell

    @property
    def draws(self) -> tuple[int, ...]:
        """The permutations of the labels that probes were fitted to, from 1; none in tiny runs."""
        return tuple(sorted({cell.draw for cell in self.task.where(probe=PERMUTED)}))

    def _get(self, layer: str, step: int, draw: int = 0) -> Probe:
        cell = self.cell(layer, step, draw)
        index, stem = self.task.row(cell), probe_name(self.task.name, cell)
        threshold = float(self.task.thresholds[index])
        return Probe(
            self._tensors[f"{stem}/weights"],
            self._tensors[f"{stem}/intercept"],
            self._tensors[f"{stem}/pattern"],
            threshold if np.isfinite(threshold) else None,
            float(self.task.cv_loss[index]),
        )
