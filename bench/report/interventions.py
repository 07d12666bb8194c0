"""The report's section on interventions, from the files in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.interventions.caveats import caveats
from bench.interventions.records import FOLDER, Summary, read_summary
from bench.interventions.summary import (
    LABELS,
    by_permutation,
    claim,
    contest_rows,
    curve_rows,
    curves_line,
    intervals_line,
    nulls,
    rows,
    times_line,
)
from bench.report.before_after import before_after
from bench.report.effect_charts import CONTROLS, drawn_charts, edge_lines
from bench.report.intervention_maps import read_attributes, read_maps
from bench.report.templates import template


def panel(run_path: Path) -> str | None:
    """The section as escaped HTML; None for a run without interventions.

    Raises UserError when a file of an experiment is damaged.
    """
    folder = run_path / FOLDER
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    tasks = [task for name in names if (task := _experiment(run_path, name))]
    attributes = read_attributes(run_path)
    if not tasks and not attributes:
        return None
    return template("intervene.html.jinja").render(tasks=tasks, attributes=attributes)


def _experiment(run_path: Path, name: str) -> dict[str, Any] | None:
    """What the folder of an experiment holds: its summary, its maps or both."""
    summary, maps = read_summary(run_path, name), read_maps(run_path, name)
    if summary is None and maps is None:
        return None
    return {"name": name, "maps": maps, "summary": summary and _task(run_path, summary)}


def _task(run_path: Path, summary: Summary) -> dict[str, Any]:
    return {
        "name": summary.task if summary.plan.name == summary.plan.task else summary.plan.name,
        "methods": [(name, LABELS[name]) for name in summary.plan.methods],
        "nulls": [*nulls(summary), *by_permutation(summary)],
        "charts": drawn_charts(summary),
        "edges": edge_lines(summary),
        "chosen_on": len(summary.choose_items),
        "curves": curve_rows(summary),
        "contests": contest_rows(summary),
        "curves_line": curves_line(summary),
        "times": times_line(summary),
        "caveats": caveats(summary),
        "claim": claim(summary),
        "intervals": intervals_line(summary),
        "rows": rows(summary),
        "visible": _visible(summary),
        "test_items": len(summary.test_items),
        "layers": ", ".join(summary.plan.layers),
        "steps": ", ".join(map(str, summary.plan.steps)),
        "seconds": summary.seconds_per_trial,
        "chosen": summary.chosen,
        "images": before_after(run_path, summary),
    }


def _visible(summary: Summary) -> list[dict[str, str]]:
    """The smallest visible gains of every edit; none in summaries of earlier versions."""
    arms = [arm for arm in summary.arms if arm.visible]
    names = list(dict.fromkeys(name for arm in arms for name in arm.visible or ()))
    return [
        {"method": arm.method, "strength": f"{arm.strength:g}"}
        | {
            f"over {CONTROLS.get(name, name)}": f"{gain:.3f}"
            if (gain := (arm.visible or {}).get(name)) is not None
            else ""
            for name in names
        }
        for arm in arms
    ]
