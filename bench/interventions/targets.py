"""What edits aim at: the labels of an image after a change that a scene can have.

``shifted`` moves the whole map by random offsets, as in the paper. The others are of depth and
follow from the geometry of a pinhole camera over a floor, whose inverse depth is an affine function
of a pixel's place and is 0 on the horizon:

``farther``, ``nearer``
    The object goes away from the camera or comes nearer, along the floor. Its image is scaled by a
    factor s about the point of the horizon above its foot, and its inverse depth is multiplied by
    s. What it uncovers takes the depth of the nearest pixels beside it in the same row.
``tilted``
    The ground is tilted to one side, about the image's middle column: inverse depth rises linearly
    across the image, by ``TILT`` standard deviations to one side and falls by as many to the other.
    The side is random and belongs to the item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import max_pool2d

from bench.interventions.shifts import Offset, draw_offsets, moved
from datasets.items import Item
from datasets.labels import DisparityScale, Labels

SCALES = {"farther": 0.7, "nearer": 1.4}
"""Factors on the object's inverse depth and size."""
_EDGE = 2
"""Pixels by which an object's mask is dilated before its place is filled."""
TILT = 0.5
"""Standard deviations of inverse depth, at the left and right edge."""


def offsets_for(
    target: str, mask: Bool[Tensor, "h w"], item: Item, count: int, unfiltered: bool
) -> tuple[Offset, ...]:
    """Draw an item's shifts, or a single one of zero for another target; none if it has none."""
    if target == "shifted":
        return draw_offsets(mask, item.seed, count, 0.0 if unfiltered else None)
    return ((0, 0),) if mask.any() else ()


def aimed(
    target: str,
    labels: Labels,
    offsets: Sequence[Offset],
    items: Sequence[Item],
    scale: DisparityScale,
) -> Labels:
    """Return the labels that edits aim at, one row per trial."""
    if target == "shifted":
        return moved(labels, offsets)
    if target == "tilted":
        return _tilted(labels, items)
    rows = [_scaled(labels, row, SCALES[target], scale) for row in range(len(items))]
    disparity, saliency = (torch.stack(part) for part in zip(*rows, strict=True))
    return replace(labels, disparity=disparity, saliency=saliency, normals=None)


def _tilted(labels: Labels, items: Sequence[Item]) -> Labels:
    width = labels.disparity.shape[-1]
    across = torch.linspace(-1, 1, width, dtype=labels.disparity.dtype)
    signs = torch.tensor(
        [1.0 if np.random.default_rng(item.seed).random() < 0.5 else -1.0 for item in items],
        dtype=labels.disparity.dtype,
    )
    tilt = TILT * signs[:, None, None] * across
    return replace(labels, disparity=labels.disparity + tilt, normals=None)


def _scaled(
    labels: Labels, row: int, factor: float, scale: DisparityScale
) -> tuple[Tensor, Tensor]:
    """Scale one image's object about the horizon above its foot."""
    mask = labels.saliency[row]
    inverse_depth = (labels.disparity[row].double() * scale.std + scale.mean).clamp(min=0)
    background = uncovered(inverse_depth, mask)
    height, width = mask.shape
    rows, columns = np.nonzero(mask.numpy())
    foot = int(columns[rows == rows.max()].mean().round())
    horizon = horizon_of(background)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # Every pixel of the target shows the pixel of the image from which the scaling brings it.
    from_y = (horizon + (y - horizon) / factor).round().long()
    from_x = (foot + (x - foot) / factor).round().long()
    inside = (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
    at = from_y.clamp(0, height - 1), from_x.clamp(0, width - 1)
    moved_mask = mask[at] & inside
    disparity = torch.where(moved_mask, inverse_depth[at] * factor, background)
    standardised = (disparity - scale.mean) / scale.std
    return standardised.to(labels.disparity.dtype), moved_mask


def uncovered(inverse_depth: Tensor, mask: Bool[Tensor, "h w"]) -> Tensor:
    """The inverse depth without the object: its pixels take that of the background in their row.

    Between the nearest background pixels of a row it is interpolated; a row without any takes the
    row below, which has the floor. The object's edge, which labels blur, counts as the object.
    """
    filled = inverse_depth.clone()
    columns = np.arange(mask.shape[1])
    covered = max_pool2d(mask[None].float(), 2 * _EDGE + 1, 1, _EDGE)[0] > 0
    for row in reversed(range(mask.shape[0])):
        hidden = covered[row].numpy()
        if hidden.all():
            filled[row] = filled[min(row + 1, mask.shape[0] - 1)]
        elif hidden.any():
            seen = ~hidden
            values = np.interp(columns, columns[seen], inverse_depth[row].numpy()[seen])
            filled[row] = torch.from_numpy(values)
    return filled


def horizon_of(background: Tensor) -> float:
    """The row at which the floor's inverse depth would be 0, from its slope in the lowest rows.

    It is at most half an image above the image, for floors that are seen from far above.
    """
    height = background.shape[0]
    floor = background[height - max(2, height // 4) :].mean(1)
    rows = torch.arange(height - len(floor), height, dtype=floor.dtype)
    centred = rows - rows.mean()
    slope = float((centred * floor).sum() / centred.square().sum())
    if slope <= 0:
        return 0.0
    horizon = float(rows.mean()) - float(floor.mean()) / slope
    return float(np.clip(horizon, -height / 2, height - 1.0))
