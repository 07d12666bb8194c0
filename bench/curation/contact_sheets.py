"""Contact sheets: small images with their depth and names, to choose by eye which to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from bench.figures.images import INK, PAPER, image_grid, image_of, save_image, shaded
from datasets.labels import Labels

TILE, GAP, TEXT = 128, 6, 16
COLUMNS, ROWS = 6, 8


def write_sheets(folder: Path, entries: Sequence[tuple[str, Path, Callable[[], Labels]]]) -> None:
    """Write ``contact-001.png`` and further sheets of (id, image, labels), and remove others.

    Right of each image is its depth, from far (dark) to near (bright); what is not salient is
    dimmed.
    """
    sheets: list[Path] = []
    for number, start in enumerate(range(0, len(entries), COLUMNS * ROWS), start=1):
        page = entries[start : start + COLUMNS * ROWS]
        cells = [_cell(name, image, labels()) for name, image, labels in page]
        rows = [cells[row : row + COLUMNS] for row in range(0, len(cells), COLUMNS)]
        # All pages have the same width.
        rows[0] += [Image.new("RGB", cells[0].size, PAPER)] * (COLUMNS - len(rows[0]))
        sheets.append(folder / f"contact-{number:03d}.png")
        save_image(image_grid(rows, GAP, (GAP, GAP, GAP, GAP)), sheets[-1])
    for path in folder.glob("contact-*.png"):
        if path not in sheets:
            # Of an earlier call with more items.
            path.unlink(missing_ok=True)


def _cell(name: str, image: Path, labels: Labels) -> Image.Image:
    """Put the depth right of an image and the name below."""
    cell = Image.new("RGB", (2 * TILE, TILE + TEXT), PAPER)
    with Image.open(image) as opened:
        cell.paste(ImageOps.contain(opened.convert("RGB"), (TILE, TILE)), (0, 0))
    cell.paste(ImageOps.contain(_depth(labels), (TILE, TILE)), (TILE, 0))
    ImageDraw.Draw(cell).text(
        (2, TILE + TEXT / 2), name[:40], INK, ImageFont.load_default(11), anchor="lm"
    )
    return cell


def _depth(labels: Labels) -> Image.Image:
    disparity, mask = labels.disparity[0].numpy(), labels.saliency[0].numpy()
    colours = shaded(disparity, float(disparity.min()), float(disparity.max())).astype(np.float64)
    colours[:, ~mask] *= 0.6
    return image_of(colours.astype(np.uint8))
