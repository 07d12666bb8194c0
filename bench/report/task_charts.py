"""The charts of a task: its curves beside those of controls and of recorded baselines."""

from __future__ import annotations

from typing import Any

from bench.analysis.curves import baseline_curves, trained_curve
from bench.figures.charts import AXES, NOISE, STEP, Line, curve_chart, legend
from bench.report.explorer import curves_of, log_snr
from bench.report.tables import measure
from bench.runs.curves import (
    ACTIVATIONS_AND_POSITION,
    CLEAN_LATENT,
    LATENT,
    MEAN_TRAINING_LABEL,
    MEAN_TRAINING_MAP,
    PERMUTED_LABELS,
    PERMUTED_WEIGHTS,
    POSITION_ALONE,
)
from bench.runs.results import Results, TaskResults
from bench.steps import number_of, numbers_of
from extract.networks import CONVOLUTION, DECODED, DECODED_LAYERS
from probes.probe_set import ACTIVATIONS

_CONTROL_STYLES = {
    ACTIVATIONS: "trained",
    ACTIVATIONS_AND_POSITION: "both",
    PERMUTED_LABELS: "permuted",
    LATENT: "latent",
    CLEAN_LATENT: "clean",
    PERMUTED_WEIGHTS: "random",
    POSITION_ALONE: "position",
    MEAN_TRAINING_MAP: "mean",
    MEAN_TRAINING_LABEL: "mean",
}
"""Curves in the chart of controls, and their styles."""
_BASELINE_STYLES = {
    ("random", None): ("permuted weights", "random"),
    ("vae", None): ("autoencoder", "latent"),
    (CONVOLUTION, None): ("convolutions", "both"),
    (DECODED, DECODED_LAYERS[0]): ("decoded image", "permuted"),
    (DECODED, DECODED_LAYERS[1]): ("predicted clean image", "position"),
}
"""Network and layer of the baselines in the chart of baselines: short names, and styles."""


def control_lines(results: Results, task: TaskResults) -> list[Line]:
    """The trained network's curves and those of its controls."""
    return [
        Line(name, _CONTROL_STYLES[name], [(number_of(step), score) for step, score in points])
        for name, points in curves_of(results, task.name).items()
    ]


def baseline_lines(results: Results, task: TaskResults) -> list[Line]:
    """The trained network's curve with those of the recorded baselines; none without baselines."""
    lines = [Line("self-attention", "trained", trained_curve(results, task))]
    for baseline, points in baseline_curves(results, task):
        style = _BASELINE_STYLES.get((baseline.network, baseline.layer))
        if style is not None:
            lines.append(Line(*style, points))
    return lines if len(lines) >= 3 else []


def chart(
    results: Results, task: TaskResults, lines: list[Line], along: str = STEP
) -> dict[str, Any]:
    """The chart of some curves of a task, as a Vega-Lite specification."""
    steps = numbers_of(results.steps)
    label = chart_label(task, along)
    return curve_chart(lines, steps, log_snr(results), measure(task), along, label)


def chart_label(task: TaskResults, along: str = STEP) -> str:
    """The name of a task's chart."""
    return f"{task.name}: {measure(task)} by {AXES[along]}"


def explorer_charts(results: Results, task: TaskResults) -> dict[str, Any]:
    """What the interactive page needs: the chart along each axis, and its legend."""
    lines = control_lines(results, task)
    by_noise = any(value is not None for value in log_snr(results))
    return {
        "charts": {
            STEP: chart(results, task, lines),
            NOISE: chart(results, task, lines, NOISE) if by_noise else None,
        },
        "lines": legend(lines),
    }
