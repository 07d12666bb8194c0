"""recipe.json of a run folder: the published recipe beside ridge, written by ``recipe``, read by whoever shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from datasets.atomic_write import atomic_write
from probes.score import AVERAGE_PRECISION

RECIPE = "recipe.json"
SCHEMA = 1
_LATE = 10
"""Epochs over which a loss that still falls is told from one that has settled."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """Both probes by one metric."""

    metric: str
    higher_is_better: bool
    ridge: float
    """Mean score of the run's own probe; of masks, at the threshold that the run chose on training images."""
    adam: float
    """Mean score of the published recipe's, after its last epoch."""
    gain: tuple[float, float, float]
    """Ridge's mean gain with its paired interval; above zero ridge is better, whichever way the metric points."""
    p: float
    ridge_scores: tuple[float | None, ...]
    """Per test image; None where undefined."""
    adam_scores: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One cell, fitted both ways and scored on the test images."""

    task: str
    layer: str
    step: int
    """Counted from 1."""
    channels: int
    tokens: int
    unit: str
    scores: tuple[Baselines, ...]
    """By every metric of the task, the headline first."""
    least_test_loss_epoch: int
    """Counted from 1: the epoch whose probe the authors keep for interventions, which takes looking at test labels."""
    least_test_loss_score: float
    ridge_seconds: float
    """Block means, sums, cross-validation of all penalties and the solution."""
    adam_seconds: float
    """Of the recipe with its loss taken in blocks."""
    published_seconds: float
    """Of the recipe with its loss taken per pixel, as published: a few updates measured, times their number."""
    regenerated_difference: float
    """Largest difference between a score of the run and that of the same probe on the image generated again."""
    refit_difference: float
    """Largest difference between the run's weights and those of the timed solution, over the largest weight."""
    train_loss: tuple[float, ...]
    """Per epoch of the recipe, as is the next."""
    test_loss: tuple[float, ...]
    adam_by_epoch: tuple[float, ...]
    """Mean score after every epoch, by the headline metric."""

    def times(self, seconds: float) -> float:
        """How many times as long as ridge's fit."""
        return seconds / self.ridge_seconds


@dataclass(frozen=True, slots=True)
class Comparison:
    """All cells, and how they were fitted."""

    epochs: int
    batch: int
    rate: float
    seed: int
    train_images: int
    test_images: int
    threads: int
    cells: tuple[Outcome, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the table must know."""
        leaps = [_leak(cell) for cell in self.cells]
        published = [cell.published_seconds for cell in self.cells]
        # A last epoch of random batches against the one before would be mostly noise.
        falls = [
            1 - cell.train_loss[-1] / cell.train_loss[-1 - _LATE]
            for cell in self.cells
            if self.epochs > _LATE
        ]
        return (
            f"Adam: {self.epochs} epochs of {self.train_images} training images, {self.batch} at a time, rate "
            f"{self.rate:g}, scored after the last epoch"
            + (
                f"; in its last {_LATE} the training loss still fell by {_range(falls, '.1%')}."
                if falls
                else "."
            ),
            "A mask by Adam is the larger of two outputs; ridge's is cut at the run's threshold. The average precision "
            "compares the two without any threshold.",
            f"Gain: ridge's over Adam's, paired over {self.test_images} test images, 95 % each; above 0 ridge is "
            "better.",
            "Times: Adam's fit over ridge's, which is its sums, five folds of twenty penalties and the solution. "
            "'Blocks' takes Adam's loss from block means, 'pixels' as published "
            f"({_range(published, '.2g')} s a cell). Neither counts the authors' scoring in every epoch.",
            "Kept: the epoch of least test loss, whose probe the authors intervene with. It is chosen on test labels "
            f"and would change the score by {_range(leaps, '+.3f')} here (above 0 is better). No figure of ours uses "
            "it.",
        )


def _leak(cell: Outcome) -> float:
    last = cell.scores[0]
    gained = cell.least_test_loss_score - last.adam
    return gained if last.higher_is_better else -gained


def _range(values: Sequence[float], form: str) -> str:
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} to {high}"


def write_recipe(run: Path, comparison: Comparison) -> None:
    """Write ``recipe.json``, whole or not at all."""
    path = run / RECIPE
    try:
        with atomic_write(path) as partial:
            partial.write_text(
                json.dumps({"schema": SCHEMA, **asdict(comparison)}, indent=1) + "\n",
                encoding="utf-8",
            )
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); mend it and repeat the command"
        ) from error


def read_recipe(run: Path) -> Comparison | None:
    """Read ``recipe.json``; None where there is none. Raises UserError when it is damaged."""
    path = run / RECIPE
    if not path.exists():
        return None
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if facts.pop("schema") != SCHEMA:
            raise ValueError("it is of another version")
        cells = []
        for cell in facts.pop("cells"):
            scores = tuple(Baselines(**_tuples(entry)) for entry in cell.pop("scores"))
            cells.append(Outcome(**_tuples(cell), scores=scores))
        return Comparison(**facts, cells=tuple(cells))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); repeat: python -m bench adam-vs-ridge {run}"
        ) from error


def _tuples(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()
    }


def recipe_rows(run: Path) -> list[dict[str, str]] | None:
    """The table of a run's comparison, for a report; None where the command has not been run."""
    comparison = read_recipe(run)
    return None if comparison is None else rows(comparison.cells)


def rows(cells: Sequence[Outcome]) -> list[dict[str, str]]:
    """One row per cell and shown metric: the headline, with the costs, and for masks one that needs no threshold."""
    return [
        {
            "task": cell.task,
            "step": str(cell.step),
            "layer": cell.layer,
            "score": f"{both.metric} ({'higher' if both.higher_is_better else 'lower'} is better)",
            "ridge": f"{both.ridge:.3f}",
            "Adam": f"{both.adam:.3f}",
            "gain of ridge": "{:+.3f} [{:+.3f}, {:+.3f}]".format(*both.gain),
            **(_costs(cell) if both is cell.scores[0] else dict.fromkeys(_costs(cell), "")),
        }
        for cell in cells
        for both in cell.scores
        if both is cell.scores[0] or both.metric == AVERAGE_PRECISION.name
    ]


def _costs(cell: Outcome) -> dict[str, str]:
    return {
        "kept": f"{cell.least_test_loss_score:.3f} (epoch {cell.least_test_loss_epoch})",
        "ridge, s": f"{cell.ridge_seconds:.3f}",
        "Adam, blocks": f"{cell.times(cell.adam_seconds):.3g} x",
        "Adam, pixels": f"{cell.times(cell.published_seconds):.3g} x",
    }
