"""The report's section on interventions, from the files in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.figures.images import png
from bench.interventions.grid import COLUMNS, Grid
from bench.interventions.runner import FOLDER
from bench.interventions.summary import GRID, claim, intervals_line, read_summary, rows, task_folder
from bench.report.templates import template

_GRID_ROWS = 12
"""Rows of the image grid in the report; grid.png has all of them."""


def panel(run_path: Path) -> str | None:
    """The section as escaped HTML; None for a run without interventions."""
    folder = run_path / FOLDER
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    tasks = [
        _task(run_path, summary) for name in names if (summary := read_summary(run_path, name))
    ]
    if not tasks:
        return None
    return template("intervene.html.jinja").render(tasks=tasks, columns=COLUMNS)


def _task(run_path: Path, summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": summary["task"],
        "claim": claim(summary),
        "intervals": intervals_line(summary),
        "rows": rows(summary),
        "layers": ", ".join(summary["plan"]["layers"]),
        "steps": ", ".join(str(step) for step in summary["plan"]["steps"]),
        "seconds": summary["seconds_per_trial"],
        "grid": _grid(task_folder(run_path, summary["task"]) / f"{GRID}.safetensors"),
    }


def _grid(path: Path) -> list[list[Any]]:
    try:
        grid = Grid(**load_file(path))
    except (OSError, SafetensorError, TypeError):
        # The section's figures do not depend on the images.
        return []
    return [[png(tile) for tile in row] for row in grid.rows()[:_GRID_ROWS]]
