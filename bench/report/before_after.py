"""Images before and after an edit, with the label that the edit aims at."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.figures.images import png
from bench.interventions.grid import COLUMNS, GRID, Grid
from bench.interventions.records import Summary, task_folder

_ITEMS = 8
"""Items in the page; grid.png has all of them."""


def before_after(run_path: Path, summary: Summary) -> list[dict[str, Any]]:
    """Items with images as data URLs and the target's outline; none where the file is missing."""
    path = task_folder(run_path, summary.plan.name) / f"{GRID}.safetensors"
    try:
        grid = Grid(**load_file(path))
    except (OSError, SafetensorError, TypeError):
        # The section's figures do not depend on the images.
        return []
    names = zip_longest(summary.test_items, summary.prompts, fillvalue="")
    rows = list(zip(names, grid.rows(), grid.target, strict=False))[:_ITEMS]
    return [
        {
            "item": item,
            "prompt": prompt,
            "before": png(images[0]),
            "after": png(images[3]),
            "size": images[0].shape[-2:],
            "outline": outline(target),
            "labels": [
                (name, png(image))
                for name, image in zip(COLUMNS, images, strict=True)
                if "label" in name
            ],
        }
        for (item, prompt), images, target in rows
    ]


def outline(label: NDArray[np.float32]) -> str:
    """The borders of a mask (1 x h x w) as the data of an SVG path in pixels; "" for other maps."""
    if len(label) != 1 or not np.isin(label, (0, 1)).all():
        return ""
    mask = np.pad(label[0] > 0, 1)
    # A border lies where a pixel differs from the one above it, or from the one to its left.
    across = np.argwhere(mask[1:, 1:-1] != mask[:-1, 1:-1])
    down = np.argwhere(mask[1:-1, 1:] != mask[1:-1, :-1])
    return "".join(
        f"M{x} {y}{line}1" for edges, line in ((across, "h"), (down, "v")) for y, x in edges
    )
