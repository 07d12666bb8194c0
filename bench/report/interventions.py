"""The report's part on interventions, from the files that they left in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.figures.images import png
from bench.interventions.grid import COLUMNS, Grid
from bench.interventions.runner import FOLDER
from bench.interventions.summary import GRID, claim, intervals_line, read_summary, rows, task_folder

_SHOWN = 12
"""Rows of the grid in the report; all of them are in grid.png."""


def panel(run_path: Path) -> str | None:
    """HTML for the report, everything in it escaped or a data address; None where nothing was edited."""
    folder = run_path / FOLDER
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    tasks = [_task(run_path, found) for name in names if (found := read_summary(run_path, name))]
    if not tasks:
        return None
    environment = Environment(
        loader=PackageLoader("bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("intervene.html.jinja").render(tasks=tasks, columns=COLUMNS)


def _task(run_path: Path, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": found["task"],
        "claim": claim(found),
        "intervals": intervals_line(found),
        "rows": rows(found),
        "layers": ", ".join(found["plan"]["layers"]),
        "steps": ", ".join(str(step) for step in found["plan"]["steps"]),
        "seconds": found["seconds_per_trial"],
        "grid": _grid(task_folder(run_path, found["task"]) / f"{GRID}.safetensors"),
    }


def _grid(path: Path) -> list[list[Any]]:
    try:
        grid = Grid(**load_file(path))
    except (OSError, SafetensorError, TypeError):
        # The figures stand without their images.
        return []
    return [[png(tile) for tile in row] for row in grid.rows()[:_SHOWN]]
