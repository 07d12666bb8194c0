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

from bench.adam_vs_ridge.fits import FitSite, PublishedProbes
from bench.runs.probes import StoredProbes
from bench.steps import numbers_of
from datasets.grid import Grid
from datasets.items import Item
from engines.cache import key_of
from probes.blocks import block_means
from probes.edit import METHODS, along, matched
from probes.probe_set import PERMUTED
from probes.published_edit import PUBLISHED, published_change, published_target

CONTROLNET = "controlnet"
ALL_METHODS = (*METHODS, PUBLISHED, CONTROLNET)
"""Edits by the run's ridge probes, the paper's procedure, and a network that is made to steer."""
EDIT, RANDOM, LATE, NULL, UNMOVED = "edit", "random", "late", "null", "unmoved"
CONTROLS = (RANDOM, PERMUTED, LATE)
"""A random direction and probes of permuted labels, each with the norm that the edit would have at
every token, and the same edit at late steps."""
CONTROLNET_CONTROLS = (RANDOM, UNMOVED, LATE)
"""A ControlNet has no probe; in place of permuted labels it is shown the unedited image's own."""


def strength_words(strength: float) -> str:
    """Write a strength in few digits, or in all where fewer are another number."""
    short = f"{strength:g}"
    return short if float(short) == strength else repr(strength)


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
        return f"{self.method}-{self.control}-{strength_words(self.strength)}-{site}"

    @property
    def step_numbers(self) -> tuple[int, ...]:
        """The steps counted from 1, for tables and files."""
        return numbers_of(self.steps)

    def fits(self, draws: Sequence[int]) -> list[FitSite]:
        """The published probes that the arm needs, with those permutations of the labels."""
        if self.method != PUBLISHED:
            return []
        needed = (0, *draws) if self.control == PERMUTED else (0,)
        return [
            (layer, step, draw) for layer in self.layers for step in self.steps for draw in needed
        ]


@dataclass(frozen=True, slots=True)
class EditProbes:
    """The probes by which a task's maps are edited."""

    ridge: StoredProbes
    """The run's own."""
    published: PublishedProbes
    """Those of the paper's recipe, at the sites that were asked for."""
    is_mask: bool
    draws: tuple[int, ...] = ()
    """The permutations of the labels whose probes are the control: an image's shifts take them in
    turn."""

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.ridge.task.name

    def grid(self, layer: str, step: int) -> Grid:
        """The tokens of a layer."""
        return self.ridge.cell(layer, step).grid

    def draw_of(self, number: int) -> int:
        """The permutation of an image's shift, counted from 0."""
        return self.draws[number % len(self.draws)]

    def targets(self, arm: Arm, target: Float[Tensor, "n k h w"]) -> dict[Grid, Tensor]:
        """Return a target map as the arm's method takes it, n x tokens x values, by grid."""
        grids = {self.grid(layer, arm.steps[0]) for layer in arm.layers}
        if arm.method == PUBLISHED:
            return {grid: published_target(target, grid, self.is_mask) for grid in grids}
        return {grid: block_means(target, grid).mT.float().contiguous() for grid in grids}


@cache
def random_directions(item: Item, layer: str, shape: tuple[int, int]) -> Float[Tensor, "c k"]:
    """Draw an item's unit directions in a layer: the same for every step, shift and arm."""
    drawn = np.random.default_rng([item.seed, zlib.crc32(layer.encode())]).standard_normal(shape)
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=0)).float()


def edit_at(
    arm: Arm,
    probes: EditProbes,
    step: int,
    items: Sequence[Item],
    targets: Mapping[Grid, Float[Tensor, "n t k"]],
    numbers: Sequence[int] = (),
) -> Callable[[str, Tensor], Tensor]:
    """Return the arm's edit at a step: a function (layer, output) -> edited output.

    ``items``, ``targets`` and ``numbers`` correspond to the rows of the batch; ``targets`` are
    those of :meth:`EditProbes.targets`, and ``numbers`` those of each row's shift within its item,
    which only the control of permuted labels needs.
    """
    published = arm.method == PUBLISHED
    source = probes.published if published else probes.ridge
    method: Callable[..., Tensor] = published_change if published else METHODS[arm.method]

    def edit(layer: str, x: Tensor) -> Tensor:
        probe, target = source.get(layer, step), targets[probes.grid(layer, step)]
        change = method(x, probe, target)
        if arm.control == RANDOM:
            residual = probe.residual(x, target)
            shape = x.shape[-1], residual.shape[-1]
            directions = torch.stack([random_directions(item, layer, shape) for item in items])
            change = along(directions, residual, change)
        elif arm.control == PERMUTED:
            # The weights of a permuted probe are tiny, so its patterns are huge: an edit of its own
            # norm would destroy the image.
            draws = [probes.draw_of(number) for number in numbers]
            other = torch.empty_like(change)
            for draw in set(draws):
                rows = [row for row, own in enumerate(draws) if own == draw]
                other[rows] = method(x[rows], source.get(layer, step, draw), target[rows])
            change = matched(other, change)
        return x + arm.strength * change

    return edit
