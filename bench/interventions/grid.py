"""The image grid of an experiment: images, labels and target labels, one row per item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.images import Bytes, image_grid, image_of, label_image, save_image

COLUMNS = ("generated", "its label", "target label", "generated with edits", "its label")
GRID = "grid"
"""Name of the grid's two files, ``.safetensors`` and ``.png``."""
TILE, GAP, HEAD = 96, 4, 22


@dataclass(frozen=True, slots=True)
class Grid:
    """The images and labels of n items."""

    image: Bytes
    """n x 3 x h x w."""
    label: NDArray[np.float32]
    """n x k x h x w."""
    target: NDArray[np.float32]
    """n x k x h x w."""
    edited: Bytes
    """n x 3 x h x w."""
    edited_label: NDArray[np.float32]
    """n x k x h x w."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, to be stored."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in self.__slots__}

    def rows(self) -> list[list[Bytes]]:
        """Return the five images of each item, 3 x h x w each; labels share the item's scale."""
        rows = []
        for image, label, target, edited, edited_label in zip(
            *self.tensors().values(), strict=True
        ):
            low, high = float(label.min()), float(label.max())
            maps = [label_image(values, low, high) for values in (label, target, edited_label)]
            rows.append([image, maps[0], maps[1], edited, maps[2]])
        return rows


def write_grid(grid: Grid, path: Path) -> None:
    """Write the grid as a PNG."""
    rows = [[image_of(image, TILE) for image in row] for row in grid.rows()]
    save_image(image_grid(rows, GAP, (0, HEAD, 0, 0), titles=COLUMNS, font_size=10), path)
