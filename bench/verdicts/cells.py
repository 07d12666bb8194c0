"""Cells that claims compare, as scores per image with the sign that makes higher better.

Layers are chosen by cross-validated loss on training images. What a run lacks raises LacksError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bench.runs.results import Results, TaskResults
from bench.steps import EARLY_STEP, number_of
from bench.verdicts.claim import LacksError
from extract.networks import TRAINED
from probes.bootstrap import Array
from probes.probe_set import ACTIVATIONS, MEAN_MAP, PERMUTED, POSITION, Cell

PAPER_STEPS = 15
"""Denoising steps of arXiv 2306.05720, to which its sentences about step 5 refer."""


def tasks_of(results: Results, names: Sequence[str]) -> list[TaskResults]:
    """Return the named tasks."""
    missing = [name for name in names if name not in results.tasks]
    if missing:
        raise LacksError(f"a run with --tasks {','.join(names)}")
    return [results.tasks[name] for name in names]


def generated_with(runs: Iterable[Results], name: str) -> list[Results]:
    """Return the runs of generated images that have a task; others serve other claims."""
    return [
        results
        for results in runs
        if results.config.source == "generated" and name in results.tasks
    ]


def early_step(results: Results) -> int:
    """Return step 5 of the paper's 15, counted from 0; step 5 of others has another noise level."""
    if results.config.sampler_steps != PAPER_STEPS:
        raise LacksError(f"a run with --sampler-steps {PAPER_STEPS}")
    if EARLY_STEP not in results.steps or results.steps[-1] == EARLY_STEP:
        raise LacksError("a run that probes step 5 and later ones")
    return EARLY_STEP


def last_step(results: Results) -> int:
    """Return the sampler's last step, counted from 0, if it was probed."""
    last = results.config.sampler_steps - 1
    if results.steps[-1] != last:
        raise LacksError("a run that probes the last step")
    return last


def scores_of(task: TaskResults, cell: Cell) -> Array:
    """Return the headline scores of a cell; higher is better."""
    return task.sign() * task.score(cell)


def best(
    task: TaskResults,
    step: int,
    probe: str = ACTIVATIONS,
    network: str = TRAINED,
    layers: Iterable[str] | None = None,
) -> Cell:
    """Return the best cell of a network at a step, of all layers or of some."""
    cells = [
        cell
        for cell in task.where(network=network, step=step, probe=probe)
        if layers is None or cell.layer in set(layers)
    ]
    return least_loss(task, cells, f"probes of {network} at step {number_of(step)}")


def least_loss(task: TaskResults, cells: Sequence[Cell], what: str) -> Cell:
    """Return the cell with the least cross-validated loss; ``what`` is said if there is none."""
    cell = task.least_loss(cells)
    if cell is None:
        raise LacksError(what)
    return cell


def permuted(task: TaskResults, cell: Cell) -> Array:
    """Return the scores of the permuted labels' probes of a cell (draws x images)."""
    draws = task.where(network=cell.network, layer=cell.layer, step=cell.step, probe=PERMUTED)
    if len(draws) < 2:
        raise LacksError("a run with more training items, for probes of permuted labels")
    return np.array([scores_of(task, draw) for draw in draws])


def family(results: Results, task: TaskResults, name: str, step: int, at_least: int = 1) -> Array:
    """Return the best layers' scores of the networks of a family (networks x images)."""
    networks = results.family(name)
    if len(networks) < at_least:
        raise LacksError(f"a run with {needs_of(name, at_least)}")
    return np.array([scores_of(task, best(task, step, network=network)) for network in networks])


def needs_of(name: str, networks: int) -> str:
    """Return the options that record a family of networks."""
    baseline = "" if name == "random" else f"--baselines {name.replace(' ', '-')}"
    count = f"--random-networks {networks}" if networks > 1 or name == "random" else ""
    return " ".join(part for part in (baseline, count) if part)


def without_activations(task: TaskResults) -> dict[str, Array]:
    """Return the scores of the baselines that read no activation, by name."""
    position = task.best(network=POSITION)
    baselines = {} if position is None else {"position alone": scores_of(task, position)}
    for cell in task.where(network=MEAN_MAP):
        name = "the mean training label" if position is None else "the mean training map"
        baselines[name] = scores_of(task, cell)
    return baselines


def is_unet(results: Results) -> bool:
    """Whether the model is a UNet: its layers are those of an encoder, a middle and a decoder."""
    return all(layer.startswith(("down", "mid", "up")) for layer in results.layers)
