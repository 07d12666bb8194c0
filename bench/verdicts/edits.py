"""Scores of a run's intervention experiment, per test image, for claims about edits."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.errors import UserError
from bench.interventions.arms import EDIT, NULL
from bench.interventions.experiment import TRIALS
from bench.interventions.records import read_summary, task_folder
from bench.runs.results import Results
from bench.verdicts.claim import LacksError
from probes.bootstrap import Array
from probes.score import sign_of


@dataclass(frozen=True, slots=True)
class Edited:
    """The chosen edit of an experiment and its controls; higher scores are better."""

    name: str
    scores: Array
    """Agreement with the target label per test image, averaged over shifts."""
    controls: Mapping[str, Array]

    def control(self, name: str) -> Array:
        """Return the same of a control. Raises LacksError if it was not run."""
        if name not in self.controls:
            raise LacksError(f"an intervention experiment with the control {name}")
        return self.controls[name]


def edited(results: Results, task: str) -> Edited:
    """Read the edit that was chosen on training images.

    Raises LacksError without an experiment, and UserError for a damaged one.
    """
    summary = read_summary(results.path, task)
    if summary is None or task not in results.tasks:
        raise LacksError(f"the experiment of: python -m bench intervene RUN --task {task}")
    if not summary.choose_items:
        raise LacksError("an intervention experiment whose edit is chosen on training items")
    path, sign = task_folder(results.path, task) / TRIALS, sign_of(summary.higher_is_better)
    arms: dict[str, dict[str, list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                edit = row["method"], float(row["strength"])
                if row["control"] == NULL or edit == (
                    summary.chosen.method,
                    summary.chosen.strength,
                ):
                    items = arms.setdefault(row["control"], {})
                    items.setdefault(row["item"], []).append(sign * float(row[summary.headline]))
        order = list(arms[EDIT])
        scores = {
            control: np.array([_mean(items[item]) for item in order])
            for control, items in arms.items()
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}); repeat: python -m bench intervene {results.path}"
        ) from error
    return Edited(
        f"{summary.chosen.method} at strength {summary.chosen.strength:g}", scores.pop(EDIT), scores
    )


def _mean(shifts: list[float]) -> float:
    """Average over the shifts with a defined score."""
    finite = [score for score in shifts if np.isfinite(score)]
    return float(np.mean(finite)) if finite else float("nan")
