"""The self-contained page ``report.html`` of a run: findings, charts, heat maps and cost."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from bench.adam_vs_ridge.results import read_recipe, recipe_rows
from bench.analysis.emergence import catching_up_line
from bench.analysis.findings import Findings, findings_of, write_document, write_findings
from bench.command_line import run_command
from bench.figures.charts import DARK_TEXT_ABOVE, Line, drawing_script, heat, legend, svg
from bench.figures.images import CIVIDIS, png
from bench.registry import plugins
from bench.report.explorer import explorer_data
from bench.report.interventions import panel
from bench.report.noise import log_snr_by_step, noise_header
from bench.report.opening import opening
from bench.report.poster import probed_strip_steps, strip_rows
from bench.report.tables import (
    baseline_line,
    caveats,
    comparison_row,
    cost_line,
    emergence_line,
    held_line,
    held_lines,
    layer_rows,
    measure,
    subset_lines,
    title,
)
from bench.report.task_charts import (
    baseline_lines,
    chart,
    chart_label,
    control_lines,
    explorer_charts,
)
from bench.report.templates import asset, template
from bench.runs.learning_curves import LEARNING
from bench.runs.readings import LONGEST
from bench.runs.results import Results, TaskResults
from bench.steps import number_of, numbers_of
from extract.networks import TRAINED
from probes.probe_set import ACTIVATIONS, WITH_POSITION

_SCRIPTS = ("charts.js", "heatmap.js", "readings.js", "explorer.js", "interventions.js")
_STYLES = ("style.css", "explorer.css", "interventions.css")


def write_report(results: Results) -> Path:
    """Write ``report.html`` and ``findings.json`` into the run folder; return the page's path.

    Everything on the page comes from that folder. Raises UserError when it cannot be written.
    """
    write_findings(results)
    findings = findings_of(results)
    recipe = read_recipe(results.path)
    page = template("report.html.jinja").render(
        results=results,
        style=Markup("").join(map(asset, _STYLES)),
        scripts=[drawing_script(), *map(asset, _SCRIPTS)],
        data=_data(results),
        opening=opening(results, findings),
        caveats=caveats(results),
        number_of=number_of,
        log_snr=log_snr_by_step(results),
        is_generated=results.config.source == "generated",
        tasks=[_task(results, task, findings) for task in results.tasks.values()],
        comparisons=[comparison_row(row) for row in findings.comparisons],
        held=held_lines(findings),
        baselines=[comparison_row(row) for row in findings.baselines],
        baselines_held=held_line(findings.baselines),
        recipe=recipe_rows(results.path),
        recipe_notes=recipe.notes if recipe else (),
        interventions=Markup(panel(results.path) or ""),
        strips=_strips(results),
        strip_steps=list(numbers_of(probed_strip_steps(results))),
        costs=results.costs,
        cost=cost_line(results),
        command=run_command(results.config),
        environment=json.dumps(results.environment.as_json(), indent=2),
        options=json.dumps(asdict(results.config), indent=2),
    )
    return write_document(results.path / "report.html", page)


def _data(results: Results) -> dict[str, Any]:
    """What the page's scripts read."""
    data = explorer_data(results)
    for entry in data["tasks"]:
        entry |= explorer_charts(results, results.tasks[entry["name"]])
    return data | {
        "palette": CIVIDIS.astype(int).tolist(),
        "dark_text_above": DARK_TEXT_ABOVE,
    }


def _task(results: Results, task: TaskResults, findings: Findings) -> dict[str, Any]:
    onsets = findings.catching_up.get(task.name)
    return {
        "name": task.name,
        "question": plugins("task").get(task.name, ""),
        "title": title(task),
        "measure": measure(task),
        "emergence": emergence_line(findings.emergence[task.name]),
        "baselines": baseline_line(results, task),
        "heat": [
            _heat_map(results, task, probe)
            for probe in (ACTIVATIONS, WITH_POSITION)
            if task.where(probe=probe)
        ],
        "chart": _figure(results, task, control_lines(results, task)),
        "share": findings.emergence[task.name],
        "subsets": subset_lines(findings, task.name),
        "compared": _figure(results, task, baseline_lines(results, task)),
        "catching_up": catching_up_line(results, task.name, onsets) if onsets else None,
        "learning": _learning(results, task),
        "rows": (rows := layer_rows(results, task)),
        "noise_header": noise_header(results, [*rows[0]]),
    }


def _figure(results: Results, task: TaskResults, lines: list[Line]) -> dict[str, Any] | None:
    """A chart as an image with its legend; None without curves."""
    if not lines:
        return None
    label = chart_label(task)
    return {"svg": svg(chart(results, task, lines), label), "legend": legend(lines), "label": label}


def _learning(results: Results, task: TaskResults) -> list[dict[str, str]]:
    """Rows of learning.csv for this task; none where the file is missing."""
    try:
        with (results.path / LEARNING).open(newline="", encoding="utf-8") as stream:
            return [
                {name: row[name] for name in ("step", "layer", "probe", "images", "explained")}
                for row in csv.DictReader(stream)
                if row["task"] == task.name
            ]
    except (OSError, KeyError, ValueError, csv.Error):
        # The rest of the page does not depend on them.
        return []


def _heat_map(results: Results, task: TaskResults, probe: str) -> dict[str, Any]:
    """Scores by layer and step as text with its colours; bright is better."""
    means = {
        (cell.layer, cell.step): float(np.nanmean(task.score(cell)))
        for cell in task.where(network=TRAINED, probe=probe)
    }
    sign = task.sign()
    ends = [sign * value for value in means.values()]
    rows = []
    for layer in results.layers:
        values = [means[layer, step] for step in results.steps]
        tiles = [(f"{value:.3f}", *heat(sign * value, min(ends), max(ends))) for value in values]
        rows.append((layer, tiles))
    return {"probe": probe, "rows": rows}


def _strips(results: Results) -> list[dict[str, Any]]:
    """Per item: rows of images over steps, with the label in the last column."""
    steps = probed_strip_steps(results)
    return [
        {
            "prompt": results.record.strip_prompts[index],
            "rows": [
                (name, [png(tile, LONGEST) for tile in tiles])
                for name, tiles in strip_rows(results, index, steps)
            ],
        }
        for index in range(len(results.strips["image"]))
    ]
