"""The report's section on interventions, from the files in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.figures.images import png
from bench.interventions.grid import COLUMNS, GRID, Grid
from bench.interventions.records import FOLDER, Summary, read_summary, task_folder
from bench.interventions.summary import (
    LABELS,
    caveats,
    claim,
    contest_rows,
    curve_rows,
    curves_line,
    intervals_line,
    nulls,
    rows,
    times_line,
)
from bench.report.templates import template

_GRID_ROWS = 12
"""Rows of the image grid in the report; grid.png has all of them."""


def panel(run_path: Path) -> str | None:
    """The section as escaped HTML; None for a run without interventions."""
    folder = run_path / FOLDER
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    summaries = (read_summary(run_path, name) for name in names)
    tasks = [_task(run_path, summary) for summary in summaries if summary]
    if not tasks:
        return None
    return template("intervene.html.jinja").render(tasks=tasks, columns=COLUMNS)


def _task(run_path: Path, summary: Summary) -> dict[str, Any]:
    return {
        "name": summary.task if summary.plan.name == summary.plan.task else summary.plan.name,
        "methods": [(name, LABELS[name]) for name in summary.plan.methods],
        "nulls": nulls(summary),
        "curves": curve_rows(summary),
        "contests": contest_rows(summary),
        "curves_line": curves_line(summary),
        "times": times_line(summary),
        "caveats": caveats(summary),
        "claim": claim(summary),
        "intervals": intervals_line(summary),
        "rows": rows(summary),
        "layers": ", ".join(summary.plan.layers),
        "steps": ", ".join(map(str, summary.plan.steps)),
        "seconds": summary.seconds_per_trial,
        "grid": _grid(task_folder(run_path, summary.plan.name) / f"{GRID}.safetensors"),
    }


def _grid(path: Path) -> list[list[Any]]:
    try:
        grid = Grid(**load_file(path))
    except (OSError, SafetensorError, TypeError):
        # The section's figures do not depend on the images.
        return []
    return [[png(tile) for tile in row] for row in grid.rows()[:_GRID_ROWS]]
