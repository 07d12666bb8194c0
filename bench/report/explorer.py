"""The data of a run's interactive page: scores of every cell, and readings of a few test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.registry import plugins
from bench.report.noise import log_snr_text
from bench.report.sheets import images, readings
from bench.report.tables import measure
from bench.runs.curves import (
    CLEAN_LATENT,
    LATENT,
    PERMUTED_LABELS,
    PERMUTED_WEIGHTS,
    POSITION_ALONE,
    Curve,
    control_curves,
    mean_label,
)
from bench.runs.results import Results, TaskResults
from bench.steps import numbers_of
from extract.networks import TRAINED
from probes.bootstrap import Score, intervals
from probes.probe_set import (
    ACTIVATIONS,
    CEILING,
    EQUAL_WIDTH,
    PERMUTED,
    WITH_POSITION,
)

_DIGITS = 4
"""Significant digits of scores in the page."""
_OF_STEPS = (LATENT, CLEAN_LATENT)
"""Controls that have one score per step, whatever the layer."""


def explorer_data(results: Results) -> dict[str, Any]:
    """Return what ``static/explorer.js`` reads; undefined numbers are None."""
    return {
        "steps": list(numbers_of(results.steps)),
        "of": results.config.sampler_steps,
        "log_snr": [log_snr_text(level) for level in results.log_snr or ()],
        "layers": list(results.layers),
        "prompts": list(results.record.strip_prompts),
        "final": "finished" if results.config.source == "generated" else "rendered",
        "images": images(results),
        "tasks": [_task(results, task) for task in results.tasks.values()],
    }


@lru_cache(maxsize=16)
def curves_of(results: Results, task: str) -> dict[str, Curve]:
    """Return the curves of a task and of its controls; they are kept for the next caller."""
    return control_curves(results, results.tasks[task])


def log_snr(results: Results) -> list[float | None]:
    """Return the log-SNR of the probed steps; None where it is infinite or was not recorded."""
    return [_short(level) for level in results.log_snr or [float("nan")] * len(results.steps)]


def _task(results: Results, task: TaskResults) -> dict[str, Any]:
    return {
        "name": task.name,
        "question": plugins("task").get(task.name, ""),
        "measure": measure(task),
        "metric": task.headline,
        "higher": task.higher_is_better[0],
        "kinds": [
            {"name": name, **_spans(results, task, rows)} for name, rows in _kinds(results, task)
        ],
        "best": [_best(results, task, step) for step in results.steps],
        "ceiling": _spans_of([_ceiling(results, task, layer) for layer in results.layers]),
        "controls": _controls(results, task),
        "readings": readings(results, task),
    }


Rows = dict[tuple[str, int], list[int]]
"""Layer and step -> rows of the task's cells; several of draws or networks."""


def _kinds(results: Results, task: TaskResults) -> Iterator[tuple[str, Rows]]:
    """(name, rows) of the kinds of probes that have a score per layer."""
    names = {ACTIVATIONS: ACTIVATIONS, WITH_POSITION: WITH_POSITION, PERMUTED: PERMUTED_LABELS}
    names |= {EQUAL_WIDTH: "equal width"}
    found: dict[str, Rows] = {name: {} for name in (*names.values(), PERMUTED_WEIGHTS)}
    random = set(results.random_networks)
    for row, cell in enumerate(task.cells):
        if cell.network == TRAINED and cell.probe in names:
            name = names[cell.probe]
        elif cell.network in random and cell.probe == ACTIVATIONS:
            name = PERMUTED_WEIGHTS
        else:
            continue
        found[name].setdefault((cell.layer, cell.step), []).append(row)
    yield from ((name, rows) for name, rows in found.items() if rows)


def _spans(results: Results, task: TaskResults, rows: Rows) -> dict[str, list[list[float | None]]]:
    """Mean, low and high by layer and step; draws and networks are averaged per image."""
    # By row, as looking up a cell takes time where there are thousands.
    scores = task.scores[:, task.metrics.index(task.headline)]
    tables = [
        scores[rows[layer, step]].mean(0)
        if (layer, step) in rows
        else np.full(scores.shape[-1], np.nan)
        for layer in results.layers
        for step in results.steps
    ]
    spans = _spans_of(tables)
    width = len(results.steps)
    return {
        name: [values[at : at + width] for at in range(0, len(values), width)]
        for name, values in spans.items()
    }


def _spans_of(tables: Sequence[NDArray[np.float64]]) -> dict[str, list[float | None]]:
    known = [bool(np.isfinite(table).any()) for table in tables]
    spans: dict[str, list[float | None]] = {
        name: [None] * len(tables) for name in ("mean", "low", "high")
    }
    if any(known):
        found = intervals(
            np.array([t for t, is_known in zip(tables, known, strict=True) if is_known])
        )
        places = [place for place, is_known in enumerate(known) if is_known]
        for name in spans:
            for place, value in zip(places, getattr(found, name).tolist(), strict=True):
                spans[name][place] = _short(value)
    return spans


def _best(results: Results, task: TaskResults, step: int) -> int | None:
    best = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
    return None if best is None else results.layers.index(best.layer)


def _ceiling(results: Results, task: TaskResults, layer: str) -> NDArray[np.float64]:
    """Scores of the label itself at the layer's resolution."""
    (cell, *_) = task.where(network=TRAINED, layer=layer, probe=ACTIVATIONS)
    (ceiling,) = task.where(network=CEILING, grid=cell.grid)
    return task.score(ceiling)


def _controls(results: Results, task: TaskResults) -> list[dict[str, Any]]:
    """Controls without layers: name, and mean, low and high, per step or once."""
    curves = curves_of(results, task.name)
    rows = []
    for name in (*_OF_STEPS, POSITION_ALONE, mean_label(task)):
        if name not in curves:
            continue
        at = dict(curves[name])
        constant = name not in _OF_STEPS
        scores = [*at.values()] if constant else [at.get(step) for step in results.steps]
        rows.append({"name": name, "constant": constant} | _columns(scores))
    return rows


def _columns(scores: Sequence[Score | None]) -> dict[str, list[float | None]]:
    return {
        name: [None if score is None else _short(getattr(score, name)) for score in scores]
        for name in ("mean", "low", "high")
    }


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
