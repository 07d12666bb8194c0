"""The probes that a run has stored, for all who apply them again."""

from __future__ import annotations

from functools import cache

import numpy as np
from safetensors import SafetensorError, safe_open

from bench.errors import MistakeError
from bench.runs.folder import refuse_changed
from bench.runs.results import PROBES, Results, probe_name
from extract.networks import TRAINED
from probes.edit import Probe
from probes.probe_set import ACTIVATIONS, PERMUTED, Cell

_DRAW = 1
"""The permutation whose probe is the control."""


class StoredProbes:
    """The probes of one task that a run has stored."""

    def __init__(self, results: Results, task: str) -> None:
        if task not in results.tasks:
            raise MistakeError(f"{results.path} has no probes of {task!r}; it has {', '.join(results.tasks)}")
        self.task = results.tasks[task]
        try:
            refuse_changed(results.path, results.facts, (PROBES,))
            with safe_open(results.path / PROBES, framework="pt") as stored:
                wanted = [name for name in stored.keys() if name.startswith(f"{task}/{TRAINED}/")]  # noqa: SIM118
                self._tensors = {name: stored.get_tensor(name).float() for name in wanted}
        except (OSError, SafetensorError) as error:
            raise MistakeError(f"cannot read the probes of {results.path} ({error}); run it again") from error
        self.get = cache(self._get)

    def cell(self, layer: str, step: int, draw: int = 0) -> Cell:
        """The cell of a probe; draw 0 is that of the true labels."""
        probe = PERMUTED if draw else ACTIVATIONS
        (cell,) = self.task.where(network=TRAINED, layer=layer, step=step, probe=probe, draw=draw)
        return cell

    def _get(self, layer: str, step: int, draw: int = 0) -> Probe:
        cell = self.cell(layer, step, draw)
        at, stem = self.task.cells.index(cell), probe_name(self.task.name, cell)
        threshold = float(self.task.thresholds[at])
        return Probe(
            self._tensors[f"{stem}/weights"],
            self._tensors[f"{stem}/intercept"],
            self._tensors[f"{stem}/pattern"],
            threshold if np.isfinite(threshold) else None,
            float(self.task.cv_loss[at]),
        )
