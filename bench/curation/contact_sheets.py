"""Contact sheets: many small pictures with their depth and names on a page, to choose by eye what to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.errors import MistakeError
from bench.figures.charts import shaded
from datasets.labels import Labels

TILE, GAP, TEXT = 128, 6, 16
COLUMNS, ROWS = 6, 8
_INK, _PAPER = (40, 40, 46), (255, 255, 255)


def write_sheets(folder: Path, entries: Sequence[tuple[str, Path, Callable[[], Labels]]]) -> list[Path]:
    """Write ``contact-001.png`` and on: of each (id, picture, labels) the picture and, right of it, its depth.

    Depth is shaded from far (dark) to near (bright) and outlined by the mask: what is not salient is dimmed.
    """
    sheets = []
    for number, start in enumerate(range(0, len(entries), COLUMNS * ROWS), start=1):
        page = entries[start : start + COLUMNS * ROWS]
        rows = -(-len(page) // COLUMNS)
        width, height = 2 * TILE + GAP, TILE + TEXT + GAP
        sheet = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), _PAPER)
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
        for place, (name, picture, labels) in enumerate(page):
            left, top = GAP + place % COLUMNS * width, GAP + place // COLUMNS * height
            with Image.open(picture) as image:
                sheet.paste(image.convert("RGB").resize((TILE, TILE)), (left, top))
            sheet.paste(_depth(labels()).resize((TILE, TILE)), (left + TILE, top))
            draw.text((left + 2, top + TILE + TEXT / 2), name[:40], _INK, font, anchor="lm")
        path = folder / f"contact-{number:03d}.png"
        try:
            sheet.save(path, optimize=True)
        except OSError as error:
            raise MistakeError(f"cannot write {path} ({error}); free space or choose another --out") from error
        sheets.append(path)
    return sheets


def _depth(labels: Labels) -> Image.Image:
    disparity, mask = labels.disparity[0].numpy(), labels.saliency[0].numpy()
    colours = shaded(disparity, float(disparity.min()), float(disparity.max())).astype(np.float64)
    colours[:, ~mask] *= 0.6
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(colours.astype(np.uint8), 0, -1)))
