"""Scores along the steps of the trained network and of its baselines."""

from __future__ import annotations

from bench.analysis.comparisons import BASELINES, cell_of
from bench.runs.curves import curve, mean_score
from bench.runs.results import Results, TaskResults
from bench.steps import number_of
from extract.networks import TRAINED
from probes.bootstrap import Score
from probes.probe_set import ACTIVATIONS


def curves(results: Results, task: TaskResults) -> list[tuple[str, list[tuple[int, Score]]]]:
    """(name, points) of the trained network and of every baseline; seeds are averaged.

    Points are (step, counted from 1; score).
    """
    trained = [
        (number_of(step), score) for step, _, score in curve(results, task, TRAINED, ACTIVATIONS)
    ]
    lines = [("activations", trained)]
    for baseline in BASELINES:
        names = results.family(baseline.network)
        if not names or baseline.probe != ACTIVATIONS:
            continue
        points = []
        for step in results.steps:
            cells = [cell for name in names if (cell := cell_of(task, baseline, name, step))]
            if cells:
                points.append((number_of(step), mean_score(task, cells)))
        lines.append((baseline.what, points))
    return lines
