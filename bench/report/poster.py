"""PNG files for a README or a slide: the filmstrips of a run, and its scores as heat maps."""

from __future__ import annotations

from pathlib import Path

from bench.figures.images import Bytes, image_grid, image_of, label_image, save_image
from bench.figures.plots import figure_image
from bench.runs.filmstrips import STRIP_STEPS
from bench.runs.read import Run
from bench.runs.results import Results
from bench.steps import number_of

TILE, GAP, MARGIN, HEAD = 96, 4, 118, 22


def write_poster(results: Results, path: Path, items: int = 3) -> Path:
    """Write the strips of the first ``items`` items and return the path.

    Each has the decoded image, then each task's prediction by step and its label. Raises UserError
    when the file cannot be written.
    """
    items = min(items, len(results.strips["image"]))
    steps = probed_strip_steps(results)
    rows = [row for item in range(items) for row in strip_rows(results, item, steps)]
    poster = image_grid(
        [[image_of(tile, TILE) for tile in tiles] for _, tiles in rows],
        GAP,
        (MARGIN, HEAD, GAP, 4 * GAP),
        titles=[*(f"step {number_of(step)}" for step in steps), "finished"],
        names=[name for name, _ in rows],
        group=(1 + len(_map_tasks(results)), 3 * GAP),
    )
    return save_image(poster, path)


def write_heat_map(results: Results, path: Path) -> Path:
    """Write the score of every layer at every step and return the path.

    Raises UserError when the file cannot be written or matplotlib is not installed.
    """
    return save_image(figure_image(Run(results).plot_layers()), path)


def probed_strip_steps(results: Results) -> list[int]:
    """The steps of the strips that were probed, counted from 0."""
    return [step - 1 for step in STRIP_STEPS if step - 1 in results.steps]


def strip_rows(results: Results, item: int, steps: list[int]) -> list[tuple[str, list[Bytes]]]:
    """(name, images 3 x h x w at the steps and at the end) of each row of an item's strip."""
    strips = results.strips
    decoded = [*(strips[f"noisy/{step}"][item] for step in steps), strips["image"][item]]
    rows = [("decoded image", decoded)]
    for name in _map_tasks(results):
        label = strips[f"label/{name}"][item]
        maps = [*(strips[f"reading/{name}/{step}"][item] for step in steps), label]
        low, high = float(label.min()), float(label.max())
        rows.append((f"{name}, probed", [label_image(values, low, high) for values in maps]))
    return rows


def _map_tasks(results: Results) -> list[str]:
    """The tasks whose labels are maps."""
    return [name for name in results.tasks if f"label/{name}" in results.strips]
