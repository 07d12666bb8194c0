"""Where the salient object is wanted: random shifts, as far as in the paper, and labels moved by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from datasets.labels import Labels

NEAREST, FARTHEST = 90 / 512, 119 / 512
"""Shifts along each axis, as shares of the image: 90 to 119 of 512 pixels in Chen et al. 2023."""
INSIDE = 0.75
"""Least share of the object that a shift must keep inside the image."""

Offset = tuple[int, int]
"""Pixels down and to the right."""


def draw_offsets(mask: Bool[Tensor, "h w"], seed: int, count: int) -> tuple[Offset, ...]:
    """``count`` different random shifts that keep most of the object inside; none if there are not so many."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask.numpy())
    if not len(rows):
        return ()
    allowed = []
    for down in _reach(height):
        for right in _reach(width):
            inside = (
                (rows + down >= 0)
                & (rows + down < height)
                & (columns + right >= 0)
                & (columns + right < width)
            )
            if inside.mean() >= INSIDE:
                allowed.append((down, right))
    if len(allowed) < count:
        return ()
    chosen = np.random.default_rng(seed).choice(len(allowed), count, replace=False)
    return tuple(allowed[index] for index in chosen)


def _reach(side: int) -> list[int]:
    far = range(round(NEAREST * side), round(FARTHEST * side) + 1)
    return [sign * pixels for sign in (-1, 1) for pixels in far]


def moved(labels: Labels, offsets: Sequence[Offset]) -> Labels:
    """Each image's labels moved by its own offset; what comes in at an edge is background, of the edge's depth."""
    n, height, width = labels.disparity.shape
    down, right = torch.tensor(offsets, dtype=torch.long).view(n, 2).T
    rows = torch.arange(height) - down[:, None]
    columns = torch.arange(width) - right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    at = (
        torch.arange(n)[:, None, None],
        rows.clamp(0, height - 1)[:, :, None],
        columns.clamp(0, width - 1)[:, None, :],
    )
    normals = None if labels.normals is None else labels.normals.movedim(1, -1)[at].movedim(-1, 1)
    return Labels(labels.disparity[at], labels.saliency[at] & inside, normals)
