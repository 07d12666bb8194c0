"""Scores along the steps: of one network, of networks that differ by their seed, and of what has no step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.analysis.comparisons import RIVALS, cell_of
from bench.runs.results import Results, TaskResults
from extract.networks import TRAINED
from probes.bootstrap import Score, score_of
from probes.probe_set import ACTIVATIONS, ALWAYS


def curve(
    results: Results, task: TaskResults, network: str, probe: str
) -> list[tuple[int, str, Score]]:
    """(step, layer, score) of the layer that is best at each step, for one network and kind of probe."""
    points = []
    for step in results.steps:
        cell = task.best(network=network, step=step, probe=probe)
        if cell is not None:
            points.append((step, cell.layer, score_of(task.score(cell))))
    return points


def family_curve(
    results: Results, task: TaskResults, networks: Sequence[str]
) -> list[tuple[int, Score]]:
    """(step, score) of networks that differ by their seed: each one's best layer, averaged per image."""
    points = []
    for step in results.steps:
        cells = [task.best(network=network, step=step, probe=ACTIVATIONS) for network in networks]
        scores = [task.score(cell) for cell in cells if cell]
        if scores:
            points.append((step, score_of(np.mean(scores, axis=0))))
    return points


def constant(task: TaskResults, network: str) -> tuple[str, Score] | None:
    """(layer, score) of a baseline that does not depend on the step."""
    cells = task.where(network=network, step=ALWAYS)
    cell = task.best(network=network) or (cells[-1] if cells else None)
    return (cell.layer, score_of(task.score(cell))) if cell else None


def curves(results: Results, task: TaskResults) -> list[tuple[str, list[tuple[int, Score]]]]:
    """(name, points) of the trained network and everything it is compared with, for a chart; seeds are averaged."""
    lines: list[tuple[str, list[tuple[int, Score]]]] = [
        (
            "activations",
            [(step + 1, score) for step, _, score in curve(results, task, TRAINED, ACTIVATIONS)],
        )
    ]
    for baseline in RIVALS:
        names = results.family(baseline.network)
        if names and baseline.probe == ACTIVATIONS:
            cells = [
                [cell for name in names if (cell := cell_of(task, baseline, name, step))]
                for step in results.steps
            ]
            means = [
                np.mean([task.score(cell) for cell in found], axis=0) for found in cells if found
            ]
            probed = [step + 1 for step, found in zip(results.steps, cells, strict=True) if found]
            lines.append(
                (
                    baseline.what,
                    [(step, score_of(mean)) for step, mean in zip(probed, means, strict=True)],
                )
            )
    return lines
