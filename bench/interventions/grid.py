"""Images of interventions: before, its label, the wanted label, after, its label; one row per item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.images import Bytes, image_grid, image_of, label_image

COLUMNS = ("generated", "its label", "wanted label", "generated with edits", "its label")
TILE, GAP, HEAD = 96, 4, 22


@dataclass(frozen=True, slots=True)
class Grid:
    """What a grid shows of n items."""

    image: Bytes
    """n x 3 x h x w, as the next but one."""
    label: NDArray[np.float32]
    """n x k x h x w, as the other labels."""
    wanted: NDArray[np.float32]
    edited: Bytes
    edited_label: NDArray[np.float32]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As named arrays, for a file."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in self.__slots__}

    def rows(self) -> list[list[Bytes]]:
        """Per item, its five images, 3 x h x w each."""
        result = []
        for index in range(len(self.image)):
            label = self.label[index]
            low, high = float(label.min()), float(label.max())
            seen = [
                label_image(maps[index], low, high)
                for maps in (self.label, self.wanted, self.edited_label)
            ]
            result.append([self.image[index], seen[0], seen[1], self.edited[index], seen[2]])
        return result


def write_grid(grid: Grid, path: Path) -> None:
    """Write the grid as a PNG."""
    rows = [[image_of(image, TILE) for image in row] for row in grid.rows()]
    image_grid(rows, GAP, (0, HEAD, 0, 0), titles=COLUMNS, font_size=10).save(path, optimize=True)
