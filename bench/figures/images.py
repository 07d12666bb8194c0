"""Images: maps of values as colours, many small images on one sheet, files and data addresses of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bench.errors import UserError

CIVIDIS = np.array(
    [(0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56)],
    dtype=np.float64,
)
"""Six stops of cividis (Nuñez, Anderton, Renslow 2018): lightness rises evenly, with or without colour vision."""
INK, PAPER = (40, 40, 46), (255, 255, 255)
_FRAME_MS = 110

Bytes = NDArray[np.uint8]
Edges = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


def shaded(values: NDArray[np.floating], low: float, high: float) -> Bytes:
    """A map of values as a cividis image, 3 x h x w."""
    at = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * (len(CIVIDIS) - 1)
    channels = [np.interp(at, np.arange(len(CIVIDIS)), CIVIDIS[:, channel]) for channel in range(3)]
    return np.stack(channels).round().astype(np.uint8)


def shown(values: NDArray[np.floating], low: float, high: float) -> Bytes:
    """A label or a reading as an image: one channel shaded between two values, three channels as colours."""
    if len(values) == 1:
        return shaded(values[0], low, high)
    colours: Bytes = np.clip((values + 1) * 127.5, 0, 255).astype(np.uint8)
    return colours


def image_of(
    image: Bytes, side: int | None = None, resample: int = Image.Resampling.NEAREST
) -> Image.Image:
    """An image (3 x h x w, or h x w in grey), of its own size or square."""
    array = np.ascontiguousarray(np.moveaxis(image, 0, -1) if image.ndim == 3 else image)
    shown = Image.fromarray(array)
    return shown if side is None else shown.resize((side, side), resample)


def image_grid(
    rows: Sequence[Sequence[Image.Image]],
    gap: int = 0,
    edges: Edges = (0, 0, 0, 0),
    titles: Sequence[str] = (),
    names: Sequence[str] = (),
    group: tuple[int, int] = (1, 0),
    font_size: int = 13,
) -> Image.Image:
    """Images of one size in rows and columns, columns under their titles and rows beside their names.

    ``group`` is (rows, further pixels): after so many rows, but for the last, the gap is so much wider.
    """
    width, height = rows[0][0].size
    left, top, right, bottom = edges
    members, apart = group
    columns = max(map(len, rows))
    across = [left + column * (width + gap) for column in range(columns)]
    down = [top + row * (height + gap) + row // members * apart for row in range(len(rows))]
    sheet = Image.new("RGB", (across[-1] + width + right, down[-1] + height + bottom), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(font_size)
    for x, title in zip(across, titles, strict=False):
        draw.text((x + width / 2, top / 2), title, INK, font, anchor="mm")
    for y, name in zip(down, names, strict=False):
        draw.text((left - 8, y + height / 2), name, INK, font, anchor="rm")
    for y, row in zip(down, rows, strict=True):
        for x, image in zip(across, row, strict=False):
            sheet.paste(image, (x, y))
    return sheet


def save_image(image: Image.Image, path: Path, kind: str = "PNG", **options: Any) -> Path:
    """Write an image to a file that the user named. Raises UserError when it cannot be written."""
    try:
        image.save(path, optimize=True, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot write {path} ({error}); name a {kind} file in a folder that can be written"
        ) from error
    return path


def write_gif(frames: Sequence[Image.Image], path: Path) -> Path:
    """Write frames as an endless GIF. Raises UserError when it cannot be written."""
    return save_image(
        frames[0],
        path,
        "GIF",
        save_all=True,
        append_images=list(frames[1:]),
        duration=_FRAME_MS,
        loop=0,
    )


def png(image: Bytes) -> str:
    """An image (3 x h x w, or h x w in grey) as a data address."""
    stream = io.BytesIO()
    image_of(image).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
