"""What the page of a run shows of a few test images: every probe's reading, at 8 bits.

The tensors lie in ``strips.safetensors``, for n images and s of the probed steps (:func:`spread`):

decoded/STEP, clean/STEP    n 3 y x     the decoded and the predicted clean image, in bytes
map/TASK/KIND/LAYER         n s k h w   readings of a task of maps, in bytes: 0 and 255 are the
                                        least and the greatest value of the image's label
vector/TASK/KIND/LAYER      n s k       readings of a task of whole images
answer/TASK                 n k         its labels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from datasets.grid import Grid
from datasets.labels import Labels
from extract.networks import TRAINED
from probes.probe_set import ACTIVATIONS, PERMUTED, WITH_POSITION, Cell
from probes.readout import Readout

SHOWN_ITEMS = 4
MOST_IMAGE_STEPS = 16
"""Steps whose images are decoded."""
LONGEST = 128
"""Longer side of these images, in pixels."""
MOST_BYTES = 3 * 2**20
"""Of all maps of a run; where they need more, fewer items, tokens and steps are kept."""
_SIDES = (32, 16, 8)
"""Most tokens along a side."""
KINDS = {
    ACTIVATIONS: (TRAINED, ACTIVATIONS, 0),
    WITH_POSITION: (TRAINED, WITH_POSITION, 0),
    "permuted labels": (TRAINED, PERMUTED, 1),
    "permuted weights": ("random-1", ACTIVATIONS, 0),
}
"""Kinds of readings: (network, probe, draw)."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of the readings is kept."""

    items: int
    side: int
    """Most tokens along a side."""
    steps: int


def spread(steps: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many of the steps, evenly spaced, the first and the last among them."""
    if len(steps) <= most:
        return tuple(steps)
    places = torch.linspace(0, len(steps) - 1, most).round().long().tolist()
    return tuple(dict.fromkeys(steps[place] for place in places))


def reading_tensors(
    readout: Readout, labels: Labels, steps: Sequence[int], items: int
) -> dict[str, Tensor]:
    """Return the readings of the first items of a block of ``items`` images."""
    cells = _cells(readout, steps[0])
    extent = extent_of(
        [cell for (name, *_), cell in cells.items() if not readout.tasks[name].per_image],
        len(steps),
        min(items, SHOWN_ITEMS),
    )
    kept, tensors = spread(steps, extent.steps), {}
    targets = {
        name: task.target(labels)[: extent.items].double() for name, task in readout.tasks.items()
    }
    for name, target in targets.items():
        if readout.tasks[name].per_image:
            tensors[f"answer/{name}"] = target.flatten(1).float().contiguous()
    for (name, kind, layer), cell in cells.items():
        values = torch.stack(
            [
                readout.predictions[name, replace(cell, step=step)][: extent.items].mT
                for step in kept
            ],
            dim=1,
        )
        if readout.tasks[name].per_image:
            tensors[f"vector/{name}/{kind}/{layer}"] = values[..., 0].float().contiguous()
        else:
            maps = _pooled(values.unflatten(-1, cell.grid.shape), extent.side)
            tensors[f"map/{name}/{kind}/{layer}"] = levels(maps, targets[name][:, None])
    return tensors


def image_tensors(
    decoded: Mapping[int, Float[Tensor, "n 3 y x"]], clean: Mapping[int, Float[Tensor, "n 3 y x"]]
) -> dict[str, Tensor]:
    """Return the images by step, made smaller."""
    return {
        f"{name}/{step}": small(images[:SHOWN_ITEMS])
        for name, by_step in (("decoded", decoded), ("clean", clean))
        for step, images in by_step.items()
    }


def small(images: Float[Tensor, "n 3 y x"]) -> UInt8[Tensor, "n 3 h w"]:
    """Return images from 0 to 1 as bytes, with at most ``LONGEST`` pixels along a side."""
    return (_pooled(images, LONGEST) * 255).round().clamp(0, 255).to(torch.uint8).contiguous()


def levels(
    values: Float[Tensor, "n s k h w"], label: Float[Tensor, "n 1 k y x"]
) -> UInt8[Tensor, "n s k h w"]:
    """Return values as bytes between the extremes of each image's label, and cut beyond them."""
    low, high = label.amin((-3, -2, -1), keepdim=True), label.amax((-3, -2, -1), keepdim=True)
    share = (values - low) / (high - low).clamp(min=1e-12)
    return (share.clamp(0, 1).nan_to_num(0.0) * 255).round().to(torch.uint8).contiguous()


def extent_of(cells: Sequence[Cell], steps: int, items: int) -> Extent:
    """Return the largest extent whose maps (a byte per token) fit into ``MOST_BYTES``.

    ``cells`` are those of one step. Tokens are given up after items, and steps after tokens.
    """
    while True:
        for side, count in product(_SIDES, range(items, 0, -1)):
            tokens = sum(rows * columns for rows, columns in (_size(c.grid, side) for c in cells))
            if tokens * steps * count <= MOST_BYTES or (steps, side, count) == (1, _SIDES[-1], 1):
                return Extent(count, side, steps)
        steps = max(1, steps // 2)


def _cells(readout: Readout, step: int) -> dict[tuple[str, str, str], Cell]:
    """(task, kind, layer) -> the cell of one step."""
    return {
        (name, kind, cell.layer): cell
        for name in readout.tasks
        for kind, (network, probe, draw) in KINDS.items()
        for cell in readout.cells[name]
        if (cell.network, cell.probe, cell.draw, cell.step) == (network, probe, draw, step)
    }


def _size(grid: Grid, most: int) -> tuple[int, int]:
    """Return rows and columns after neighbours are averaged so that no side has more than most."""
    factor = -(-max(grid.shape) // most)
    return max(1, grid.rows // factor), max(1, grid.columns // factor)


def _pooled(values: Float[Tensor, "*b y x"], most: int) -> Float[Tensor, "*b h w"]:
    grid = Grid(*values.shape[-2:])
    size = _size(grid, most)
    if size == grid.shape:
        return values
    pooled: Tensor = adaptive_avg_pool2d(values.flatten(0, -3), size)
    whole: Tensor = pooled.unflatten(0, values.shape[:-2])
    return whole
