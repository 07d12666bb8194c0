"""Choose the cells that are fitted both ways: the best layers of a few steps, by training loss."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bench.errors import UserError
from bench.runs.probes import StoredProbes
from bench.runs.results import Results
from bench.steps import EARLY_STEP, number_of, numbers_of
from datasets.grid import WHOLE
from extract.networks import TRAINED
from extract.taps import fits
from probes.adam import EPOCHS
from probes.probe_set import ACTIVATIONS, Cell

TASKS = ("saliency", "depth")
CELLS = 6


@dataclass(frozen=True, slots=True)
class Choice:
    """Options of ``python -m bench adam-vs-ridge``: steps from 1, empty tuples for defaults."""

    cells: int = CELLS
    """The most cells to compare."""
    tasks: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    epochs: int = EPOCHS

    def __post_init__(self) -> None:
        """Check the counts. Raises UserError."""
        for name in ("cells", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class ProbeCell:
    """A cell of a task, with the probe that the run stored."""

    task: str
    cell: Cell
    weights: Float[Tensor, "c 1"]
    intercept: Float[Tensor, " 1"]
    threshold: float
    """nan for a map."""

    @property
    def site(self) -> tuple[str, int]:
        """Layer and step of the activations."""
        return self.cell.layer, self.cell.step


def choose_cells(results: Results, choice: Choice) -> list[ProbeCell]:
    """Take the best layer of every step and task by cross-validated loss, then the second best.

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
            layers = ", ".join(results.layers)
            raise UserError(f"the run has no probes of layer {name!r}; it has {layers}")
    numbers = list(numbers_of(results.steps))
    for number in choice.steps:
        if number not in numbers:
            raise UserError(
                f"the run has no probes of step {number}; it has {', '.join(map(str, numbers))}: "
                "choose others with --steps"
            )
    steps = {step for step in results.steps if number_of(step) in choice.steps}
    defaults = {0, EARLY_STEP, results.steps[-1]}
    ranked = []
    for at, stored in enumerate(StoredProbes(results, name) for name in tasks):
        for step in sorted(steps or defaults.intersection(results.steps)):
            cells = [
                cell
                for cell in stored.task.where(network=TRAINED, step=step, probe=ACTIVATIONS)
                if not choice.layers or any(fits(cell.layer, layer) for layer in choice.layers)
            ]
            cells.sort(key=lambda cell: float(stored.task.cv_loss[stored.task.row(cell)]))
            ranked += [(rank, at, step, stored, cell) for rank, cell in enumerate(cells)]
    ranked.sort(key=lambda entry: entry[:3])
    first = sorted(ranked[: choice.cells], key=lambda entry: entry[1:3])
    return [_probe_cell(stored, cell) for *_, stored, cell in first]


def _probe_cell(stored: StoredProbes, cell: Cell) -> ProbeCell:
    name, accepted = stored.task.name, "the published recipe is for maps of one channel"
    if cell.grid == WHOLE:
        raise UserError(f"{accepted}, and {name} is of whole images; name other --tasks")
    probe = stored.get(cell.layer, cell.step)
    if probe.weights.shape[1] != 1:
        raise UserError(f"{accepted}, and {name} has more; name other --tasks")
    threshold = float("nan") if probe.threshold is None else probe.threshold
    return ProbeCell(name, cell, probe.weights, probe.intercept, threshold)
