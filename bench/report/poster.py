"""The strips of a run as one PNG: a scene coming out of noise, for a README or a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bench.errors import MistakeError
from bench.figures.charts import shaded
from bench.runs.filmstrips import STRIP_STEPS
from bench.runs.results import Results

TILE, GAP, MARGIN, HEAD = 96, 4, 118, 22
_INK, _PAPER = (40, 40, 46), (255, 255, 255)


def write_poster(results: Results, path: Path, items: int = 3) -> Path:
    """Write the first ``items`` strips, or all there are: decoded picture, each task's reading by step, and label."""
    items = min(items, len(results.strips["picture"]))
    steps = [step - 1 for step in STRIP_STEPS if step - 1 in results.steps]
    rows_per_item = 1 + len(pictured(results))
    columns = len(steps) + 1
    width = MARGIN + columns * (TILE + GAP)
    height = HEAD + items * (rows_per_item * (TILE + GAP) + 3 * GAP)
    poster = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(poster), ImageFont.load_default(13)
    for column, title in enumerate([*(f"step {step + 1}" for step in steps), "finished"]):
        draw.text((MARGIN + column * (TILE + GAP) + TILE / 2, HEAD / 2), title, _INK, font, anchor="mm")
    top = HEAD
    for item in range(items):
        for name, tiles in strip_rows(results, item, steps):
            draw.text((MARGIN - 8, top + TILE / 2), name, _INK, font, anchor="rm")
            for column, tile in enumerate(tiles):
                picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(tile, 0, -1)))
                poster.paste(
                    picture.resize((TILE, TILE), Image.Resampling.NEAREST), (MARGIN + column * (TILE + GAP), top)
                )
            top += TILE + GAP
        top += 3 * GAP
    try:
        poster.save(path, optimize=True)
    except (OSError, ValueError) as error:
        raise MistakeError(f"cannot write {path} ({error}); name a PNG file in a folder that can be written") from error
    return path


def pictured(results: Results) -> list[str]:
    """The tasks of maps; a label of a whole picture is no picture."""
    return [name for name in results.tasks if f"label/{name}" in results.strips]


def strip_rows(results: Results, item: int, steps: list[int]) -> list[tuple[str, list[NDArray[np.uint8]]]]:
    """(name, pictures 3 x h x w at the steps and finished) of each row of an item's strip."""
    strips = results.strips
    rows = [("decoded picture", [*(strips[f"noisy/{step}"][item] for step in steps), strips["picture"][item]])]
    for name in pictured(results):
        label = strips[f"label/{name}"][item]
        readings = [strips[f"reading/{name}/{step}"][item] for step in steps]
        rows.append((f"{name}, probed", [_shown(values, label) for values in (*readings, label)]))
    return rows


def _shown(values: NDArray[np.floating], label: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A reading as a picture: one channel shaded over the label's range, three channels as colours."""
    if len(values) == 1:
        return shaded(values[0], float(label.min()), float(label.max()))
    colours: NDArray[np.uint8] = np.clip((values + 1) * 127.5, 0, 255).astype(np.uint8)
    return colours
