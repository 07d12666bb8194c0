"""The arms of an intervention: by which method, how strongly, in which layers and steps, or by which control."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.errors import MistakeError
from bench.runs.folder import refuse_changed
from bench.runs.results import PROBES, Results, probe_name
from datasets.items import Item
from engines.cache import key_of
from extract.networks import TRAINED
from probes.edit import METHODS, Probe, along, matched
from probes.probe_set import ACTIVATIONS, PERMUTED, Cell

EDIT, RANDOM, LATE, NULL = "edit", "random", "late", "null"
CONTROLS = (RANDOM, PERMUTED, LATE)
"""A random direction and a probe of permuted labels, both of the edit's norm at every token; the edit, but late."""
_DRAW = 1
"""The permutation whose probe is the control."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to intervene."""

    method: str
    control: str
    """``edit`` for the intervention itself."""
    strength: float
    layers: tuple[str, ...]
    steps: tuple[int, ...]
    """0 to T-1."""

    @property
    def key(self) -> str:
        """A name for files, which tells any two arms apart."""
        place = key_of({"layers": self.layers, "steps": self.steps})[:8]
        return f"{self.method}-{self.control}-{self.strength:g}-{place}"


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


@cache
def random_directions(item: Item, layer: str, shape: tuple[int, int]) -> Float[Tensor, "c k"]:
    """Unit directions of an item in a layer: the same in every step, shift and arm."""
    drawn = np.random.default_rng([item.seed, zlib.crc32(layer.encode())]).standard_normal(shape)
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=0)).float()


def edit_at(
    arm: Arm, probes: StoredProbes, step: int, items: Sequence[Item], targets: Mapping[int, Float[Tensor, "n t k"]]
) -> Callable[[str, Tensor], Tensor]:
    """What an arm does to activations at a step: (layer, output) -> edited output.

    ``items`` and ``targets`` (by the layer's tokens along one side) belong to the rows of the batch.
    """

    def edit(layer: str, x: Tensor) -> Tensor:
        probe, target = probes.get(layer, step), targets[probes.cell(layer, step).side]
        method = METHODS[arm.method]
        change = method(x, probe, target)
        if arm.control == RANDOM:
            shape = (probe.weights.shape[0], probe.weights.shape[1])
            directions = torch.stack([random_directions(item, layer, shape) for item in items])
            change = along(directions, target - probe.read(x), change)
        elif arm.control == PERMUTED:
            # At its own norm this control would be no control: its weights are tiny, so its patterns are huge.
            change = matched(method(x, probes.get(layer, step, _DRAW), target), change)
        return x + arm.strength * change

    return edit
