"""Mean scores along the steps, with intervals, for tables and charts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.runs.results import Results, TaskResults
from extract.networks import CLEAN, INPUT, TRAINED
from probes.bootstrap import Score, score_of
from probes.probe_set import (
    ACTIVATIONS,
    ALWAYS,
    MEAN_MAP,
    PERMUTED,
    POSITION,
    WITH_POSITION,
    Cell,
)

Curve = list[tuple[int, Score]]
"""(step, counted from 0; score)."""

PERMUTED_LABELS, PERMUTED_WEIGHTS = "permuted labels", "permuted weights"
LATENT, CLEAN_LATENT = "the latent itself", "the predicted clean latent"
ACTIVATIONS_AND_POSITION, POSITION_ALONE = "activations + position", "position alone"
MEAN_TRAINING_LABEL, MEAN_TRAINING_MAP = "mean training label", "mean training map"
"""Names of controls, in tables, charts and on the page."""


def curve(
    results: Results, task: TaskResults, network: str, probe: str
) -> list[tuple[int, str, Score]]:
    """(step, layer, score) of the best layer at each step, for one network and kind of probe."""
    points = []
    for step in results.steps:
        cell = task.best(network=network, step=step, probe=probe)
        if cell is not None:
            points.append((step, cell.layer, score_of(task.score(cell))))
    return points


def family_curve(results: Results, task: TaskResults, networks: Sequence[str]) -> Curve:
    """Scores of networks that differ by their seed: each one's best layer, averaged per image."""
    points = []
    for step in results.steps:
        cells = [task.best(network=network, step=step, probe=ACTIVATIONS) for network in networks]
        if any(cells):
            points.append((step, mean_score(task, [cell for cell in cells if cell])))
    return points


def permuted_curve(results: Results, task: TaskResults) -> Curve:
    """Scores of permuted labels in the trained network's best layer, averaged over draws."""
    points = []
    for step in results.steps:
        best = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
        if best is not None:
            draws = task.where(network=TRAINED, step=step, probe=PERMUTED, layer=best.layer)
            if not draws:
                return []
            points.append((step, mean_score(task, draws)))
    return points


def constant(task: TaskResults, network: str) -> tuple[str, Score] | None:
    """(layer, score) of a baseline that does not depend on the step."""
    cells = task.where(network=network, step=ALWAYS)
    cell = task.best(network=network) or (cells[-1] if cells else None)
    return (cell.layer, score_of(task.score(cell))) if cell else None


def control_curves(results: Results, task: TaskResults) -> dict[str, Curve]:
    """Name -> scores of the trained network's best layers and of their controls.

    A control that does not depend on the step has a single point; one that the run lacks has none
    and is left out.
    """

    def best(network: str, probe: str) -> Curve:
        return [(step, score) for step, _, score in curve(results, task, network, probe)]

    curves = {
        ACTIVATIONS: best(TRAINED, ACTIVATIONS),
        ACTIVATIONS_AND_POSITION: best(TRAINED, WITH_POSITION),
        PERMUTED_LABELS: permuted_curve(results, task),
        LATENT: best(INPUT, ACTIVATIONS),
        CLEAN_LATENT: best(CLEAN, ACTIVATIONS),
        PERMUTED_WEIGHTS: family_curve(results, task, results.random_networks),
    }
    for name, network in ((POSITION_ALONE, POSITION), (mean_label(task), MEAN_MAP)):
        if baseline := constant(task, network):
            curves[name] = [(results.steps[0], baseline[1])]
    return {name: points for name, points in curves.items() if points}


def mean_label(task: TaskResults) -> str:
    """The name of the baseline that predicts the mean training target."""
    return MEAN_TRAINING_MAP if task.where(network=POSITION) else MEAN_TRAINING_LABEL


def mean_score(task: TaskResults, cells: Sequence[Cell]) -> Score:
    """The score of cells that are averaged per image."""
    return score_of(np.mean([task.score(cell) for cell in cells], axis=0))
