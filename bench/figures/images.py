"""Images: maps of values as colours, grids of images, files and data URLs."""

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
from datasets.atomic_write import atomic_write

CIVIDIS = np.array(
    [(0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56)],
    dtype=np.float64,
)
"""Six stops of cividis (Nuñez, Anderton, Renslow 2018), whose lightness rises evenly."""
INK, PAPER = (40, 40, 46), (255, 255, 255)
_FRAME_MS = 110

Bytes = NDArray[np.uint8]
Edges = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


def cividis(at: float | NDArray[np.floating]) -> NDArray[np.float64]:
    """Colours of values from 0 (dark) to 1 (bright), 3 x shape; channels from 0 to 255."""
    stops = np.linspace(0, 1, len(CIVIDIS))
    return np.stack([np.interp(at, stops, CIVIDIS[:, channel]) for channel in range(3)])


def shaded(values: NDArray[np.floating], low: float, high: float) -> Bytes:
    """A map of values as a cividis image, 3 x h x w."""
    at = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return cividis(at).round().astype(np.uint8)


def label_image(values: NDArray[np.floating], low: float, high: float) -> Bytes:
    """A label or a prediction as an image, 3 x h x w.

    One channel is shaded between ``low`` and ``high``; two or three channels from -1 to 1 become
    colours.
    """
    if len(values) == 1:
        return shaded(values[0], low, high)
    if len(values) == 2:
        values = np.concatenate([values, np.zeros_like(values[:1])])
    colours: Bytes = np.clip((values + 1) * 127.5, 0, 255).astype(np.uint8)
    return colours


def image_of(
    image: Bytes, longest: int | None = None, resample: int = Image.Resampling.NEAREST
) -> Image.Image:
    """Convert an image (3 x h x w, or h x w in grey); ``longest`` sets its longer side."""
    array = np.ascontiguousarray(np.moveaxis(image, 0, -1) if image.ndim == 3 else image)
    converted = Image.fromarray(array)
    if longest is None:
        return converted
    scale = longest / max(converted.size)
    width, height = (max(1, round(pixels * scale)) for pixels in converted.size)
    return converted.resize((width, height), resample)


def image_grid(
    rows: Sequence[Sequence[Image.Image]],
    gap: int = 0,
    edges: Edges = (0, 0, 0, 0),
    titles: Sequence[str] = (),
    names: Sequence[str] = (),
    group: tuple[int, int] = (1, 0),
    font_size: int = 13,
) -> Image.Image:
    """Arrange images of one size in rows and columns, with titles above and names to the left.

    ``group`` is (rows, pixels): after every so many rows the gap is wider by so many pixels.
    """
    width, height = rows[0][0].size
    left, top, right, bottom = edges
    members, extra_gap = group
    columns = max(map(len, rows))
    across = [left + column * (width + gap) for column in range(columns)]
    down = [top + row * (height + gap) + row // members * extra_gap for row in range(len(rows))]
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
    """Write an image to a file. Raises UserError when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        form = Image.registered_extensions().get(path.suffix.lower())
        if form is None:
            raise ValueError(f"unknown file extension {path.suffix!r}")
        with atomic_write(path) as partial:
            image.save(partial, form, optimize=True, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot write {path} ({error}); name a {kind} file in a folder that can be written"
        ) from error
    return path


def write_gif(frames: Sequence[Image.Image], path: Path) -> Path:
    """Write frames as a looping GIF. Raises UserError when it cannot be written."""
    return save_image(
        frames[0],
        path,
        "GIF",
        save_all=True,
        append_images=list(frames[1:]),
        duration=_FRAME_MS,
        loop=0,
    )


def png(image: Bytes, longest: int | None = None) -> str:
    """An image (3 x h x w, or h x w in grey) as a data URL; ``longest`` makes it smaller."""
    if longest is not None and max(image.shape[-2:]) > longest:
        return _url(image_of(image, longest, Image.Resampling.BOX), "PNG", optimize=True)
    return _url(image_of(image), "PNG", optimize=True)


def shaded_png(levels: Bytes) -> str:
    """A map of levels from 0 to 255 (h x w) in the colours of cividis, as a data URL."""
    converted = Image.fromarray(np.ascontiguousarray(levels)).convert("P")
    converted.putpalette(cividis(np.linspace(0, 1, 256)).T.round().astype(np.uint8).tobytes())
    return _url(converted, "PNG", optimize=True)


def jpeg(image: Bytes) -> str:
    """A photograph (3 x h x w) as a data URL, without loss of colour resolution."""
    return _url(image_of(image), "JPEG", quality=85, subsampling=0)


def _url(image: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(stream.getvalue()).decode()
