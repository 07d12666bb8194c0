"""Which cells of a run an entry claims.

Of every task: the best layer's probe at every step, alone and with position; every layer at the
last step; and the controls at step 5 and at the last step: permuted labels, the latent itself,
permuted weights, and position alone. Layers are chosen by cross-validated loss on training images.
The mean training map is left out: a run does not keep it.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.runs.results import Results, TaskResults
from bench.steps import early_and_last
from extract.networks import CLEAN, INPUT, TRAINED
from probes.probe_set import ACTIVATIONS, PERMUTED, POSITION, WITH_POSITION, Cell


def claimed_cells(results: Results, task: TaskResults) -> tuple[Cell, ...]:
    """Return the claimed cells of a task, without repetition."""
    return tuple(dict.fromkeys([*_of_model(results, task), *_of_controls(results, task)]))


def best_cells(results: Results, task: TaskResults) -> set[Cell]:
    """Return the cells that are the best of their network, step and kind of probe."""
    kinds = {(cell.network, cell.step, cell.probe) for cell in task.cells if cell.probe != PERMUTED}
    chosen = (task.best(network=name, step=step, probe=probe) for name, step, probe in kinds)
    return {cell for cell in chosen if cell is not None}


def _of_model(results: Results, task: TaskResults) -> Iterator[Cell]:
    for step in results.steps:
        for probe in (ACTIVATIONS, WITH_POSITION):
            best = task.best(network=TRAINED, step=step, probe=probe)
            if best is not None:
                # A probe with position is read together with the one of the same activations.
                yield from task.where(
                    network=TRAINED, step=step, layer=best.layer, probe=ACTIVATIONS
                )
                yield best
    yield from task.where(network=TRAINED, step=results.steps[-1], probe=ACTIVATIONS)


def _of_controls(results: Results, task: TaskResults) -> Iterator[Cell]:
    for step in early_and_last(results.steps):
        best = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
        if best is not None:
            yield from task.where(network=TRAINED, step=step, layer=best.layer, probe=PERMUTED)
        for network in (INPUT, CLEAN, *results.random_networks):
            control = task.best(network=network, step=step, probe=ACTIVATIONS)
            if control is not None:
                yield control
    position = task.best(network=POSITION)
    if position is not None:
        yield position
