"""The strips of a run as one PNG: a scene coming out of noise, for a README or a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.figures.images import image_grid, image_of, save_image, shown
from bench.runs.filmstrips import STRIP_STEPS
from bench.runs.results import Results

TILE, GAP, MARGIN, HEAD = 96, 4, 118, 22


def write_poster(results: Results, path: Path, items: int = 3) -> Path:
    """Write the first ``items`` strips, or all there are: decoded image, each task's reading by step, and label."""
    items = min(items, len(results.strips["image"]))
    steps = [step - 1 for step in STRIP_STEPS if step - 1 in results.steps]
    members = 1 + len(filmstrip_networks(results))
    strips = [row for item in range(items) for row in strip_rows(results, item, steps)]
    poster = image_grid(
        [[image_of(tile, TILE) for tile in tiles] for _, tiles in strips],
        GAP,
        (MARGIN, HEAD, GAP, 4 * GAP),
        titles=[*(f"step {step + 1}" for step in steps), "finished"],
        names=[name for name, _ in strips],
        group=(members, 3 * GAP),
    )
    return save_image(poster, path)


def filmstrip_networks(results: Results) -> list[str]:
    """The tasks of maps; a label of a whole image is no image."""
    return [name for name in results.tasks if f"label/{name}" in results.strips]


def strip_rows(
    results: Results, item: int, steps: list[int]
) -> list[tuple[str, list[NDArray[np.uint8]]]]:
    """(name, images 3 x h x w at the steps and finished) of each row of an item's strip."""
    strips = results.strips
    rows = [
        (
            "decoded image",
            [*(strips[f"noisy/{step}"][item] for step in steps), strips["image"][item]],
        )
    ]
    for name in filmstrip_networks(results):
        label = strips[f"label/{name}"][item]
        readings = [strips[f"reading/{name}/{step}"][item] for step in steps]
        span = float(label.min()), float(label.max())
        rows.append((f"{name}, probed", [shown(values, *span) for values in (*readings, label)]))
    return rows
