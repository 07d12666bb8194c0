"""Which cells the published recipe is compared on: the best layers of a few steps, by loss on training images."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bench.errors import UserError
from bench.runs.probes import StoredProbes
from bench.runs.results import Results
from bench.steps import EARLY_STEP
from extract.networks import TRAINED
from extract.taps import fits
from probes.adam import EPOCHS
from probes.probe_set import ACTIVATIONS, Cell

TASKS = ("saliency", "depth")
CELLS = 6


@dataclass(frozen=True, slots=True)
class Choice:
    """Which cells to compare; empty tuples take the defaults. Steps are counted from 1."""

    cells: int = CELLS
    """At most so many."""
    tasks: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    epochs: int = EPOCHS

    def __post_init__(self) -> None:
        """Refuse what cannot be done, whatever the run."""
        for name in ("cells", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class ProbeCell:
    """A cell of a task, with the run's probe of it."""

    task: str
    cell: Cell
    weights: Float[Tensor, "c 1"]
    intercept: Float[Tensor, " 1"]
    threshold: float
    """nan for a map."""

    @property
    def site(self) -> tuple[str, int]:
        """Layer and step of its activations."""
        return self.cell.layer, self.cell.step


def chosen(results: Results, choice: Choice) -> list[ProbeCell]:
    """The best layer by cross-validated loss of every step and task, then the second best of each, and so on.

    Raises UserError for a task, layer or step that the run has not probed.
    """
    tasks = tuple(dict.fromkeys(choice.tasks)) or tuple(
        name for name in TASKS if name in results.tasks
    )
    if not tasks:
        raise UserError(
            f"{results.path} has no probes of {' or '.join(TASKS)}; name others with --tasks"
        )
    for name in choice.layers:
        if not any(fits(layer, name) for layer in results.layers):
            raise UserError(
                f"the run has no probes of layer {name!r}; it has {', '.join(results.layers)}"
            )
    probed = results.steps
    steps = [step - 1 for step in choice.steps] or [
        s for s in (0, EARLY_STEP, probed[-1]) if s in probed
    ]
    for step in steps:
        if step not in probed:
            known = ", ".join(str(number + 1) for number in probed)
            raise UserError(
                f"the run has no probes of step {step + 1}; it has {known}: choose others with --steps"
            )
    ranked = []
    for at, stored in enumerate(StoredProbes(results, name) for name in tasks):
        for step in sorted(set(steps)):
            cells = [
                cell
                for cell in stored.task.where(network=TRAINED, step=step, probe=ACTIVATIONS)
                if not choice.layers or any(fits(cell.layer, layer) for layer in choice.layers)
            ]
            cells.sort(key=lambda cell: float(stored.task.cv_loss[stored.task.cells.index(cell)]))
            ranked += [(rank, at, step, stored, cell) for rank, cell in enumerate(cells)]
    ranked.sort(key=lambda entry: entry[:3])
    found = [_contestant(stored, cell) for *_, stored, cell in ranked[: choice.cells]]
    return sorted(found, key=lambda one: (tasks.index(one.task), one.cell.step))


def _contestant(stored: StoredProbes, cell: Cell) -> ProbeCell:
    name, wanted = stored.task.name, "the published recipe is for maps of one channel"
    if cell.side == 1:
        raise UserError(f"{wanted}, and {name} is of whole images; name other --tasks")
    probe = stored.get(cell.layer, cell.step)
    if probe.weights.shape[1] != 1:
        raise UserError(f"{wanted}, and {name} has more; name other --tasks")
    threshold = float("nan") if probe.threshold is None else probe.threshold
    return ProbeCell(name, cell, probe.weights, probe.intercept, threshold)
