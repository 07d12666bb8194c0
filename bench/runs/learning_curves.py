"""learning.csv: scores of the best layers' probes fitted to fewer training images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from bench.errors import UserError
from bench.steps import early_and_last, number_of
from bench.study import Study
from datasets.atomic_write import write_csv
from extract.networks import TRAINED
from probes.learning import learning_curve
from probes.probe_set import ACTIVATIONS, WITH_POSITION, Cell, ProbeSet
from probes.shared_eigenbases import remembering
from probes.statistics import Site, SufficientStatistics

LEARNING = "learning.csv"
_COLUMNS = ("task", "layer", "step", "probe", "images", "loss", "explained")

Row = dict[str, str | int | float]


def curves_of(study: Study) -> Iterator[tuple[str, int, str]]:
    """Yield (task, step, probe) of every curve: at step 5 and at the last step."""
    for name, task in study.tasks.items():
        for step in early_and_last(study.config.probed_steps):
            for probe in (ACTIVATIONS,) if task.per_image else (ACTIVATIONS, WITH_POSITION):
                yield name, step, probe


def learning_rows(
    study: Study, probe_set: ProbeSet, sums_at: Callable[[Site], Sequence[SufficientStatistics]]
) -> Iterator[Row]:
    """Yield the points of all curves; ``sums_at`` returns the sums of every fold at a site."""
    steps = study.config.probed_steps
    curves = [
        (name, probe_set.best(name, TRAINED, step, probe)) for name, step, probe in curves_of(study)
    ]

    def features(curve: tuple[str, Cell]) -> tuple[Site, int, bool]:
        name, cell = curve
        return (cell.network, cell.layer), cell.step, study.tasks[name].per_image

    # Neighbouring curves of the same features share their sums and eigenbases.
    for (site, step, _), group in groupby(curves, features):
        sums, decomposing = sums_at(site), remembering()
        for name, cell in group:
            for point in learning_curve(sums, name, cell, steps.index(step), decomposing):
                yield {
                    "task": name,
                    "layer": cell.layer,
                    "step": number_of(step),
                    "probe": cell.probe,
                    "images": round(point.images, 1),
                    "loss": f"{point.loss:.6g}",
                    "explained": f"{point.explained:.4f}",
                }


def write_learning(folder: Path, rows: Iterator[Row]) -> None:
    """Write the curves into a run folder. Raises UserError when they cannot be written."""
    path = folder / LEARNING
    try:
        write_csv(path, _COLUMNS, rows)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); mend it and run again: nothing is lost"
        ) from error
