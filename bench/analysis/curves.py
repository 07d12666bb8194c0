"""Scores along the steps of the trained network and of its baselines."""

from __future__ import annotations

from bench.analysis.comparisons import BASELINES, Baseline, cell_of
from bench.runs.curves import curve, mean_score
from bench.runs.results import Results, TaskResults
from bench.steps import number_of
from extract.networks import TRAINED
from probes.bootstrap import Score
from probes.probe_set import ACTIVATIONS

Points = list[tuple[int, Score]]
"""(step, counted from 1; score)."""


def trained_curve(results: Results, task: TaskResults) -> Points:
    """Scores of the trained network's best layers."""
    points = curve(results, task, TRAINED, ACTIVATIONS)
    return [(number_of(step), score) for step, _, score in points]


def baseline_curves(results: Results, task: TaskResults) -> list[tuple[Baseline, Points]]:
    """Scores of every recorded baseline; seeds are averaged."""
    lines = []
    for baseline in BASELINES:
        names = results.family(baseline.network)
        if not names or baseline.probe != ACTIVATIONS:
            continue
        points = []
        for step in results.steps:
            cells = [cell for name in names if (cell := cell_of(task, baseline, name, step))]
            if cells:
                points.append((number_of(step), mean_score(task, cells)))
        lines.append((baseline, points))
    return lines
