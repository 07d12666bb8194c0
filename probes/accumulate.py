"""Accumulate the statistics of training images from a block's activations and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.grid import WHOLE, Grid
from datasets.labels import Labels
from probes.blocks import Blocks
from probes.moments import CPU, Moments, moments_of
from probes.position import position_columns
from probes.statistics import Shape, Site, SufficientStatistics
from probes.task import Task

DRAWS = 5
"""Permutations of the labels among the images of a block, each with its own target columns.

There are fewer if the smallest block has fewer.
"""

_ENTRIES_AT_ONCE = 1 << 25
"""Float64 entries of rows in memory while moments are computed: 256 MiB."""


class Accumulator:
    """Reduce one block to sufficient statistics.

    Activations are kept until the block's labels are known, then released: the products of
    activations and labels need every token of both. They stay on their device while a quarter of
    its memory is free; further ones are kept on the CPU. Tasks of whole images read means over
    tokens, so that without tasks of maps only means are kept. The statistics are computed on
    ``device`` and stay there. Every element of ``permutations`` names, for each image, the image
    whose labels it takes.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        permutations: Sequence[Sequence[int]],
        device: torch.device = CPU,
    ) -> None:
        self.tasks = tasks
        self.permutations = permutations
        self.device = device
        self._keeps_tokens = not all(task.per_image for task in tasks.values())
        self._activations: dict[Site, list[Tensor]] = defaultdict(list)
        self._grids: dict[Site, Grid] = {}
        self._sums: SufficientStatistics | None = None

    def update(
        self,
        step: int,
        network: str,
        layer: str,
        activation: Float[Tensor, "n t c"],
        grid: Grid,
    ) -> None:
        """Keep a copy of an activation, or its means; steps must come in order."""
        if not self._keeps_tokens:
            kept = self._means(activation)
        elif _has_room(activation.device):
            # An activation is often a view that would keep the other half of its batch in memory.
            kept = activation.clone()
        else:
            kept = activation.cpu()
        self._activations[network, layer].append(kept)
        self._grids[network, layer] = grid

    def finish(self, labels: Labels) -> None:
        """Compute the moments of all activations and release them."""
        # The order of the names decides the columns, and survives writing and reading a file.
        targets = {
            name: self.tasks[name].target(labels).to(self.device, non_blocking=True).double()
            for name in sorted(self.tasks)
        }
        map_tasks = [name for name in targets if not self.tasks[name].per_image]
        image_tasks = [name for name in targets if self.tasks[name].per_image]
        grids = sorted(set(self._grids.values()))
        blocks = {(name, grid): Blocks(targets[name], grid) for name in map_tasks for grid in grids}
        blocks |= {(name, WHOLE): Blocks(targets[name], WHOLE) for name in image_tasks}
        map_columns = {
            grid: self._target_columns([blocks[name, grid] for name in map_tasks])
            for grid in grids
            if map_tasks
        }
        if image_tasks:
            image_columns = self._target_columns([blocks[name, WHOLE] for name in image_tasks])
        fixed = {
            grid: torch.cat([self._position(grid).expand(len(columns), -1, -1), columns], dim=-1)
            for grid, columns in map_columns.items()
        }
        shapes, moments, pooled = {}, {}, {}
        for site in list(self._activations):
            steps = self._activations.pop(site)
            grid = self._grids[site]
            shapes[site] = Shape(grid, steps[0].shape[-1])
            if image_tasks:
                means = [self._means(step) for step in steps] if self._keeps_tokens else steps
                rows = image_columns.flatten(0, 1).expand(len(means), -1, -1)
                pooled[site] = moments_of(torch.cat([torch.stack(means), rows], dim=-1))
            if map_tasks:
                moments[site] = _moments(steps, fixed[grid], self.device)
        self._sums = SufficientStatistics(
            images=len(labels.disparity),
            shapes=shapes,
            moments=moments,
            pooled=pooled,
            target={name: target.sum(0) for name, target in targets.items()},
            within={key: target_blocks.within.sum(0) for key, target_blocks in blocks.items()},
            draws=len(self.permutations),
        )

    def sums(self) -> SufficientStatistics:
        """The block's statistics. Raises RuntimeError before :meth:`finish`."""
        if self._sums is None:
            raise RuntimeError("the block is not finished, its labels are missing; call finish")
        return self._sums

    def _means(self, activation: Float[Tensor, "n t c"]) -> Float[Tensor, "n c"]:
        means: Tensor = activation.to(self.device).double().mean(1)
        return means

    def _position(self, grid: Grid) -> Float[Tensor, "t q"]:
        return position_columns(grid).to(self.device, non_blocking=True)

    def _target_columns(self, blocks: Sequence[Blocks]) -> Float[Tensor, "n t y"]:
        orders = torch.tensor([list(range(len(blocks[0].target))), *self.permutations])
        orders = orders.to(self.device, non_blocking=True)
        columns = [task_blocks.mean[order].mT for task_blocks in blocks for order in orders]
        return torch.cat(columns, dim=-1)


def _has_room(device: torch.device) -> bool:
    """Whether a quarter of a GPU's memory is free; the CPU's is not asked for."""
    if device.type != "cuda":
        return True
    free, whole = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + cached > whole // 4


def _moments(
    activations: Sequence[Float[Tensor, "n t c"]],
    columns: Float[Tensor, "n t x"],
    device: torch.device,
) -> Moments:
    """Moments of the rows (activation, columns) of every token, one set per step."""
    n, tokens, _ = columns.shape
    fixed = columns.flatten(0, 1)
    width = activations[0].shape[-1] + fixed.shape[-1]
    at_once = max(1, _ENTRIES_AT_ONCE // (n * tokens * width))
    parts = []
    for start in range(0, len(activations), at_once):
        # Some may have waited on the CPU.
        chunk = torch.stack([x.to(device) for x in activations[start : start + at_once]])
        chunk = chunk.double().flatten(1, 2)
        rows = torch.cat([chunk, fixed.expand(len(chunk), -1, -1)], dim=-1)
        parts.append(moments_of(rows))
    return Moments(
        n * tokens,
        torch.cat([part.mean for part in parts]),
        torch.cat([part.scatter for part in parts]),
    )
