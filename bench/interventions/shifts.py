"""Random shifts of the salient object, as far as in the paper, and labels moved by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from datasets.labels import Labels

NEAREST, FARTHEST = 90 / 512, 119 / 512
"""Shifts along each axis as shares of the image: 90 to 119 of 512 pixels in Chen et al. 2023."""
INSIDE = 0.75
"""Least share of the object that must stay inside the image."""

Offset = tuple[int, int]
"""Pixels down and to the right."""


def draw_offsets(
    mask: Bool[Tensor, "h w"], seed: int, count: int, inside: float | None = None
) -> tuple[Offset, ...]:
    """Draw ``count`` different shifts that keep a share of the object inside, by default most.

    The result is empty where there are fewer such shifts.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask.numpy())
    if not len(rows):
        return ()
    least = INSIDE if inside is None else inside
    allowed = []
    for down in _distances(height):
        for right in _distances(width):
            moved_rows, moved_columns = rows + down, columns + right
            kept = (moved_rows >= 0) & (moved_rows < height)
            kept &= (moved_columns >= 0) & (moved_columns < width)
            if kept.mean() >= least:
                allowed.append((down, right))
    if len(allowed) < count:
        return ()
    chosen = np.random.default_rng(seed).choice(len(allowed), count, replace=False)
    return tuple(allowed[index] for index in chosen)


def _distances(side: int) -> list[int]:
    pixels = range(round(NEAREST * side), round(FARTHEST * side) + 1)
    return [sign * distance for sign in (-1, 1) for distance in pixels]


def moved(labels: Labels, offsets: Sequence[Offset]) -> Labels:
    """Move each image's maps by its offset; attributes of the whole image stay.

    Pixels that enter at an edge are background and have the depth, normal and shadow of that edge.
    """
    n, height, width = labels.disparity.shape
    down, right = torch.tensor(offsets, dtype=torch.long).view(n, 2).T
    rows = (torch.arange(height) - down[:, None])[:, :, None]
    columns = (torch.arange(width) - right[:, None])[:, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    at = torch.arange(n)[:, None, None], rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return replace(
        labels,
        disparity=labels.disparity[at],
        saliency=labels.saliency[at] & inside,
        normals=None if labels.normals is None else _moved_channels(labels.normals, at),
        depth_m=None if labels.depth_m is None else labels.depth_m[at],
        shadow=None if labels.shadow is None else labels.shadow[at],
    )


def _moved_channels(maps: Tensor, at: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return maps.movedim(1, -1)[at].movedim(-1, 1)
