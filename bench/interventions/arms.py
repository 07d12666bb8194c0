"""The arms of an intervention experiment: a method, strength, layers and steps, or a control."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bench.runs.probes import StoredProbes
from bench.steps import numbers_of
from datasets.items import Item
from engines.cache import key_of
from probes.edit import METHODS, along, matched
from probes.probe_set import PERMUTED

EDIT, RANDOM, LATE, NULL = "edit", "random", "late", "null"
CONTROLS = (RANDOM, PERMUTED, LATE)
"""A random direction and a probe of permuted labels, both with the edit's norm at every token, and
the same edit at late steps."""

_DRAW = 1
"""The permutation of the labels whose probe is the control."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to edit activations."""

    method: str
    control: str
    """``edit`` for the intervention itself."""
    strength: float
    layers: tuple[str, ...]
    steps: tuple[int, ...]
    """0 to T-1."""

    @property
    def key(self) -> str:
        """A unique name for files."""
        site = key_of({"layers": self.layers, "steps": self.steps})[:8]
        return f"{self.method}-{self.control}-{self.strength:g}-{site}"

    @property
    def step_numbers(self) -> tuple[int, ...]:
        """The steps counted from 1, for tables and files."""
        return numbers_of(self.steps)


@cache
def random_directions(item: Item, layer: str, shape: tuple[int, int]) -> Float[Tensor, "c k"]:
    """Draw an item's unit directions in a layer: the same for every step, shift and arm."""
    drawn = np.random.default_rng([item.seed, zlib.crc32(layer.encode())]).standard_normal(shape)
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=0)).float()


def edit_at(
    arm: Arm,
    probes: StoredProbes,
    step: int,
    items: Sequence[Item],
    targets: Mapping[int, Float[Tensor, "n t k"]],
) -> Callable[[str, Tensor], Tensor]:
    """Return the arm's edit at a step: a function (layer, output) -> edited output.

    ``items`` and ``targets`` correspond to the rows of the batch; ``targets`` maps the number of
    tokens along one side of a layer's output to the target at that resolution.
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
            # The weights of a permuted probe are tiny, so its patterns are huge: an edit of its own
            # norm would destroy the image.
            change = matched(method(x, probes.get(layer, step, _DRAW), target), change)
        return x + arm.strength * change

    return edit
