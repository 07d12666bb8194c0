"""Pictures of interventions: before, its label, the wanted label, after, its label; one row per item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bench.figures.charts import shaded

COLUMNS = ("painted", "its label", "wanted label", "painted with edits", "its label")
TILE, GAP, HEAD = 96, 4, 22
_INK, _PAPER = (40, 40, 46), (255, 255, 255)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Grid:
    """What a grid shows of n items."""

    picture: Bytes
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
        """Per item, its five pictures, 3 x h x w each."""
        result = []
        for index in range(len(self.picture)):
            label = self.label[index]
            low, high = float(label.min()), float(label.max())
            seen = [_shown(maps[index], low, high) for maps in (self.label, self.wanted, self.edited_label)]
            result.append([self.picture[index], seen[0], seen[1], self.edited[index], seen[2]])
        return result


def _shown(values: NDArray[np.float32], low: float, high: float) -> Bytes:
    """One channel shaded over the label's range, three channels as colours."""
    if len(values) == 1:
        return shaded(values[0], low, high)
    colours: Bytes = np.clip((values + 1) * 127.5, 0, 255).astype(np.uint8)
    return colours


def tiles(rows: Sequence[Sequence[Bytes]], titles: Sequence[str]) -> Image.Image:
    """Pictures in rows and columns, the columns under their titles."""
    width = len(titles) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, HEAD + len(rows) * (TILE + GAP) - GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for column, title in enumerate(titles):
        draw.text((column * (TILE + GAP) + TILE / 2, HEAD / 2), title, _INK, font, anchor="mm")
    for number, row in enumerate(rows):
        for column, tile in enumerate(row):
            picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(tile, 0, -1)))
            place = (column * (TILE + GAP), HEAD + number * (TILE + GAP))
            sheet.paste(picture.resize((TILE, TILE), Image.Resampling.NEAREST), place)
    return sheet


def write_grid(grid: Grid, path: Path) -> None:
    """Write the grid as a PNG."""
    tiles(grid.rows(), COLUMNS).save(path, optimize=True)
