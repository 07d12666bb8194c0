"""report.html: one file that tells what was asked, what was found, where, from which step on, and at what cost."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.adam_vs_ridge.results import read_recipe, recipe_rows
from bench.analysis.curves import constant, curve, curves, family_curve
from bench.analysis.emergence import catching_up_line
from bench.analysis.findings import Findings, found_in, write_found
from bench.config import run_command
from bench.errors import UserError
from bench.figures.charts import Line, heat, line_chart
from bench.figures.images import png
from bench.registry import plugins
from bench.report.interventions import panel
from bench.report.poster import strip_rows
from bench.report.tables import (
    UNTRAINED,
    baseline_line,
    comparison_row,
    cost_line,
    emergence_line,
    held_line,
    held_lines,
    layer_rows,
    measure,
    strata_line,
    title,
)
from bench.runs.filmstrips import STRIP_STEPS
from bench.runs.learning_curves import LEARNING
from bench.runs.results import Results, TaskResults
from extract.networks import INPUT, TRAINED
from probes.bootstrap import Score, score_of
from probes.probe_set import ACTIVATIONS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION

_STYLES = {
    "activations": ("self-attention", "ours"),
    "permuted weights, the trained network's latents": ("permuted weights", "random"),
    "the autoencoder's decoder": ("autoencoder", "latent"),
    "the residual blocks' convolutions": ("convolutions", "both"),
    "the labeler on the decoded image": ("decoded image", "permuted"),
    "the labeler on the predicted clean image": ("predicted clean image", "position"),
}
"""Readings in the chart of comparisons: short names, and classes in the style sheet. The table has all of them."""


def write_report(results: Results) -> Path:
    """Write ``report.html`` into the run folder, ``findings.json`` beside it, and give the page's path.

    Everything comes from that folder.
    """
    write_found(results)
    environment = Environment(
        loader=PackageLoader("bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = found_in(results)
    page = environment.get_template("report.html.jinja").render(
        results=results,
        untrained=UNTRAINED if results.untrained else None,
        is_generated=results.config.source == "generated",
        tasks=[_task(results, task, found) for task in results.tasks.values()],
        comparisons=[comparison_row(entry) for entry in found.comparisons],
        held=held_lines(found),
        paper=[comparison_row(entry) for entry in found.paper],
        paper_held=held_line(found.paper),
        recipe=recipe_rows(results.path),
        recipe_notes=(found_recipe.notes if (found_recipe := read_recipe(results.path)) else ()),
        interventions=Markup(panel(results.path) or ""),
        strips=_strips(results),
        strip_steps=[step for step in STRIP_STEPS if step - 1 in results.steps],
        costs=results.costs,
        cost=cost_line(results),
        command=run_command(results.config),
        environment=json.dumps(results.environment.as_json(), indent=2),
        options=json.dumps(asdict(results.config), indent=2),
    )
    path = results.path / "report.html"
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); make it writable and run: bench report"
        ) from error
    return path


def _task(results: Results, task: TaskResults, found: Findings) -> dict[str, Any]:
    catching_up = found.catching_up.get(task.name)
    return {
        "name": task.name,
        "question": plugins("task").get(task.name, ""),
        "title": title(task),
        "measure": measure(task),
        "emergence": emergence_line(found.emergence[task.name]),
        "baselines": baseline_line(results, task),
        "heat": [
            _heat_map(results, task, probe)
            for probe in (ACTIVATIONS, WITH_POSITION)
            if task.where(probe=probe)
        ],
        "chart": line_chart(
            _lines(results, task),
            [step + 1 for step in results.steps],
            f"{task.name}: {measure(task)}",
        ),
        "share": found.emergence[task.name],
        "strata": strata_line(found, task.name),
        "compared": _compared(results, task),
        "catching_up": catching_up_line(results, task.name, catching_up) if catching_up else None,
        "learning": _learning(results, task),
        "rows": layer_rows(results, task),
    }


def _compared(results: Results, task: TaskResults) -> Markup | None:
    """The trained network's curve among the readings that it is compared with."""
    lines = [
        Line(*_STYLES[name], points) for name, points in curves(results, task) if name in _STYLES
    ]
    if len(lines) < 3:
        return None
    return line_chart(
        lines, [step + 1 for step in results.steps], f"{task.name}: {measure(task)}, compared"
    )


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
        # The figures stand without these.
        return []


def _heat_map(results: Results, task: TaskResults, probe: str) -> dict[str, Any]:
    """Layers x steps; bright is better."""
    means = {
        (cell.layer, cell.step): float(np.nanmean(task.score(cell)))
        for cell in task.where(network=TRAINED, probe=probe)
    }
    low, high = min(means.values()), max(means.values())
    if not task.higher_is_better[0]:
        low, high = high, low
    rows = []
    for layer in results.layers:
        values = [means[layer, step] for step in results.steps]
        rows.append((layer, [(f"{value:.3f}", *_colours(value, low, high)) for value in values]))
    return {"probe": probe, "rows": rows}


def _colours(value: float, worst: float, best: float) -> tuple[str, str]:
    if best >= worst:
        return heat(value, worst, best)
    return heat(-value, -worst, -best)


def _lines(results: Results, task: TaskResults) -> list[Line]:
    def points(network: str, probe: str) -> list[tuple[int, Score]]:
        return [(step + 1, score) for step, _, score in curve(results, task, network, probe)]

    lines = [
        Line("activations", "ours", points(TRAINED, ACTIVATIONS)),
        Line("activations + position", "both", points(TRAINED, WITH_POSITION)),
        Line("permuted labels", "permuted", _permuted(results, task)),
        Line("the latent itself", "latent", points(INPUT, ACTIVATIONS)),
    ]
    random = family_curve(results, task, results.random_networks)
    lines.append(Line("random weights", "random", [(step + 1, score) for step, score in random]))
    mean = "mean training map" if task.where(network=POSITION) else "mean training label"
    for name, network, style in (
        ("position alone", POSITION, "position"),
        (mean, MEAN_MAP, "mean"),
    ):
        found = constant(task, network)
        if found:
            lines.append(Line(name, style, [(1, found[1])]))
    return lines


def _permuted(results: Results, task: TaskResults) -> list[tuple[int, Score]]:
    points = []
    for step in results.steps:
        best = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
        if best is not None:
            draws = task.where(network=TRAINED, step=step, probe=PERMUTED, layer=best.layer)
            if not draws:
                return []
            points.append(
                (step + 1, score_of(np.mean([task.score(cell) for cell in draws], axis=0)))
            )
    return points


def _strips(results: Results) -> list[dict[str, Any]]:
    """Per item: rows of images over steps, with what they should show in the last column."""
    steps = [step - 1 for step in STRIP_STEPS if step - 1 in results.steps]
    items = []
    for index in range(len(results.strips["image"])):
        rows = [
            (name, [png(tile) for tile in tiles])
            for name, tiles in strip_rows(results, index, steps)
        ]
        items.append({"prompt": results.record.strip_prompts[index], "rows": rows})
    return items
