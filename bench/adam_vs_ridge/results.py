"""``adam_vs_ridge.json`` of a run folder: the published recipe against ridge, and its table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from bench.errors import UserError
from bench.options.validation import Record, read_record, remedy
from datasets.atomic_write import atomic_write
from probes.score import AVERAGE_PRECISION, sign_of

RECIPE = "adam_vs_ridge.json"
SCHEMA = 1
_LAST_EPOCHS = 10
"""Epochs over which a falling training loss is reported; single epochs are too noisy."""


class ScorePair(Record):
    """The scores of both probes by one metric."""

    metric: str
    higher_is_better: bool
    ridge: float
    """Mean score of the run's probe; of masks, at the threshold chosen on training images."""
    adam: float
    """Mean score of the published recipe after its last epoch."""
    gain: tuple[float, float, float]
    """Mean gain of ridge and its paired interval; above zero ridge is better for every metric."""
    p: float
    ridge_scores: tuple[float | None, ...]
    """Per test image; None where undefined."""
    adam_scores: tuple[float | None, ...]


class CellComparison(Record):
    """One cell, fitted both ways and scored on the test images."""

    task: str
    layer: str
    step: int
    """Counted from 1."""
    channels: int
    tokens: int
    unit: str
    scores: tuple[ScorePair, ...] = Field(min_length=1)
    """By every metric of the task, the headline metric first."""
    least_test_loss_epoch: int
    """Counted from 1. The authors intervene with this epoch's probe, chosen on test labels."""
    least_test_loss_score: float
    ridge_seconds: float
    """Block means, sums, cross-validation of all penalties and the solution."""
    adam_seconds: float | None
    """Of the recipe with its loss taken in blocks; None of a fit that is stored from a command with
    other threads."""
    published_seconds: float
    """Of the recipe with its loss per pixel, as published: updates times the median of a few."""
    regenerated_difference: float
    """Largest difference between a stored score and that of the same probe on the new image."""
    refit_difference: float
    """Largest difference between stored and refitted weights, over the largest stored weight."""
    train_loss: tuple[float, ...]
    """Adam's, per epoch."""
    test_loss: tuple[float, ...]
    adam_by_epoch: tuple[float, ...]
    """Mean headline score after every epoch."""


class RecipeComparison(Record):
    """All cells, and how they were fitted."""

    schema_read: ClassVar[int | None] = SCHEMA

    version: int = Field(alias="schema")
    epochs: int
    batch: int
    rate: float
    seed: int
    train_images: int
    test_images: int
    threads: int
    cells: tuple[CellComparison, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """How the table is to be read, one sentence or two per line."""
        leaks = [
            sign_of(cell.scores[0].higher_is_better)
            * (cell.least_test_loss_score - cell.scores[0].adam)
            for cell in self.cells
        ]
        published = [cell.published_seconds for cell in self.cells]
        falls = [
            1 - cell.train_loss[-1] / cell.train_loss[-1 - _LAST_EPOCHS]
            for cell in self.cells
            if self.epochs > _LAST_EPOCHS
        ]
        fall = ""
        if falls:
            fall = (
                f"; in its last {_LAST_EPOCHS} the training loss still fell "
                f"by {_range(falls, '.1%')}"
            )
        return (
            f"Adam: {self.epochs} epochs of {self.train_images} training images, {self.batch} at "
            f"a time, rate {self.rate:g}, scored after the last epoch{fall}.",
            "A mask by Adam is the larger of two outputs; ridge's is cut at the run's threshold. "
            "The average precision compares the two without any threshold.",
            f"Gain: ridge's over Adam's, paired over {self.test_images} test images, 95 % each; "
            "above 0 ridge is better.",
            "Times: Adam's fit over ridge's, which is its sums, twenty penalties in every fold and "
            "the solution; - where the fit is stored from a command with other threads. 'Blocks' "
            "takes Adam's loss from block means, 'pixels' as published "
            f"({_range(published, '.2g')} s a cell). Neither counts the authors' scoring in every "
            "epoch.",
            "Kept: the epoch of least test loss, whose probe the authors intervene with. It is "
            f"chosen on test labels and would change the score by {_range(leaks, '+.3f')} here "
            "(above 0 is better). No other figure uses it.",
        )


def _range(values: Sequence[float], form: str) -> str:
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} to {high}"


def write_recipe(run: Path, comparison: RecipeComparison) -> None:
    """Write ``adam_vs_ridge.json`` atomically. Raises UserError when it cannot be written."""
    path = run / RECIPE
    text = json.dumps(comparison.model_dump(by_alias=True), indent=1) + "\n"
    try:
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); mend it and repeat the command"
        ) from error


def read_recipe(run: Path) -> RecipeComparison | None:
    """Read ``adam_vs_ridge.json``; None without one. Raises UserError when it is damaged."""
    path = run / RECIPE
    if not path.exists():
        return None
    try:
        return read_record(RecipeComparison, path)
    except (OSError, ValueError) as error:
        what = remedy(error, f"repeat: python -m bench adam-vs-ridge {run}")
        raise UserError(f"{path} cannot be read ({error}); {what}") from error


def recipe_rows(run: Path) -> list[dict[str, str]] | None:
    """Return the table of a run's comparison; None where there is none."""
    comparison = read_recipe(run)
    return None if comparison is None else rows(comparison.cells)


def rows(cells: Sequence[CellComparison]) -> list[dict[str, str]]:
    """Return a row per cell with the headline metric and the costs; masks have a second row.

    The second row is of the average precision, which needs no threshold.
    """
    return [
        {
            "task": cell.task,
            "step": str(cell.step),
            "layer": cell.layer,
            "score": f"{pair.metric} ({'higher' if pair.higher_is_better else 'lower'} is better)",
            "ridge": f"{pair.ridge:.3f}",
            "Adam": f"{pair.adam:.3f}",
            "gain of ridge": "{:+.3f} [{:+.3f}, {:+.3f}]".format(*pair.gain),
            **(_costs(cell) if pair is cell.scores[0] else dict.fromkeys(_costs(cell), "")),
        }
        for cell in cells
        for pair in cell.scores
        if pair is cell.scores[0] or pair.metric == AVERAGE_PRECISION.name
    ]


def _costs(cell: CellComparison) -> dict[str, str]:
    return {
        "kept": f"{cell.least_test_loss_score:.3f} (epoch {cell.least_test_loss_epoch})",
        "ridge, s": f"{cell.ridge_seconds:.3f}",
        "Adam, blocks": "-"
        if cell.adam_seconds is None
        else f"{cell.adam_seconds / cell.ridge_seconds:.3g} x",
        "Adam, pixels": f"{cell.published_seconds / cell.ridge_seconds:.3g} x",
    }
