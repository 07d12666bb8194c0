"""The test items and tasks that several runs share, and what forbids to compare the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.across.models import OF_SAMPLING, Model
from bench.errors import UserError
from bench.runs.conditions import TEST_ITEMS, TRAINING_ITEMS, differences, of_labels
from bench.runs.results import Results, TaskResults
from probes.bootstrap import Array

_LEAST_ITEMS = 4
_FEW_ITEMS = 100
"""Below it, noise delays onsets much (``order.py``)."""
_EXPECTED = (*OF_SAMPLING, TEST_ITEMS)
"""Conditions in which runs may differ; tables name those of sampling for every model."""


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Models with the items and tasks that all of their runs have."""

    models: tuple[Model, ...]
    tasks: tuple[str, ...]
    items: tuple[str, ...]
    """Ids of the shared test items."""
    notes: tuple[str, ...]
    """Sentences about conditions in which the runs differ."""

    def task(self, model: Model, name: str) -> TaskResults:
        """Return a task of a model's run, with the scores of the shared items alone, in order."""
        task = model.results.tasks[name]
        places = {item: row for row, item in enumerate(model.results.record.test_items)}
        rows = [places[item] for item in self.items]
        return replace(task, scores=task.scores[:, :, rows])

    def signed(self, name: str, scores: Array) -> Array:
        """Return headline scores with the sign that makes higher better."""
        return self.models[0].results.tasks[name].sign() * scores


def paired_items(runs: Sequence[Results]) -> tuple[str, ...]:
    """Return the ids of the test items that all runs have, in the order of the first.

    Raises UserError where items of one id are not the same, or have labels of other kinds.
    """
    differing = differences(runs)
    common = [item for item in runs[0].record.test_items if _all_have(runs[1:], item)]
    unlike = {name: values for name, values in of_labels(differing).items() if name != TEST_ITEMS}
    if "dataset" in differing:
        unlike = {"dataset": differing["dataset"]} | unlike
    for name, values in unlike.items():
        raise UserError(
            f"the runs differ in {name} ({', '.join(values)}), so their items are no pairs; "
            "give runs of the same dataset and labeler"
        )
    equal_ids = all(len(run.record.test_items) == len(common) for run in runs)
    # Where all ids are equal, the hashes are those of other prompts or seeds. Runs of earlier
    # versions did not record more.
    if (TEST_ITEMS in differing and equal_ids) or not all(_is_same(runs, item) for item in common):
        raise UserError(
            "the runs have test items of equal ids with other prompts or seeds, so their items are "
            "no pairs; give runs of the same dataset"
        )
    if len(common) < _LEAST_ITEMS:
        raise UserError(
            f"the runs share {len(common)} test items, and differences over fewer than "
            f"{_LEAST_ITEMS} say nothing; give runs of the same items"
        )
    return tuple(common)


def shared(models: Sequence[Model], tasks: Sequence[str] | None = None) -> Shared:
    """Return what runs share. Raises UserError where they cannot be compared.

    ``tasks`` are all that every run has unless they are named.
    """
    items = paired_items([model.results for model in models])
    for model in models:
        if model.results.log_snr is None:
            raise UserError(
                f"{model.results.path} does not hold the noise levels of its steps, as an earlier "
                "version made it; make the run again"
            )
        if not np.isfinite(model.results.log_snr).any():
            raise UserError(
                f"{model.results.path} has no step at a finite noise level to compare at; "
                "run the model with more --steps"
            )
        if model.results.steps[0] != 0:
            raise UserError(
                f"{model.results.path} was not probed at the first step, where models are compared "
                "as well; make the run with --steps that begin with 1"
            )
    notes = _notes(models, len(items))
    return Shared(tuple(models), _tasks(models, tasks), items, notes)


def _is_same(runs: Sequence[Results], item: str) -> bool:
    """Whether an item has one prompt and seed in all runs that recorded them."""
    keys = {results.item_keys.get(item) for results in runs}
    return len(keys - {None}) <= 1


def _all_have(runs: Sequence[Results], item: str) -> bool:
    return all(item in results.record.test_items for results in runs)


def _tasks(models: Sequence[Model], named: Sequence[str] | None) -> tuple[str, ...]:
    chosen = named or list(dict.fromkeys(task for model in models for task in model.results.tasks))
    lacking = [
        (name, model) for name in chosen for model in models if name not in model.results.tasks
    ]
    if named and lacking:
        name, model = lacking[0]
        raise UserError(
            f"{model.results.path} has no task {name}, only {', '.join(model.results.tasks)}; "
            f"leave {name} out of --tasks, or run the model with it"
        )
    kept = tuple(name for name in chosen if name not in {task for task, _ in lacking})
    if not kept:
        raise UserError("the runs have no task in common; run the models with the same --tasks")
    return kept


def _notes(models: Sequence[Model], items: int) -> tuple[str, ...]:
    notes = []
    if items < _FEW_ITEMS:
        notes.append(
            f"orders of emergence over {items} items are uncertain: noise delays onsets, most of "
            f"all those of weak attributes; use {_FEW_ITEMS} test items or more"
        )
    for name, values in differences([model.results for model in models]).items():
        if name not in _EXPECTED or name == TRAINING_ITEMS:
            pairs = zip(models, values, strict=True)
            said = ", ".join(f"{model.name} {value}" for model, value in pairs)
            notes.append(f"the runs differ in {name}: {said}")
    for model in models:
        if chosen := model.results.config.layers:
            notes.append(
                f"{model.name} was probed in {', '.join(chosen)} alone, and its best layer is the "
                "best of these"
            )
    everywhere = set.intersection(*(set(model.results.tasks) for model in models))
    for model in models:
        more = [task for task in model.results.tasks if task not in everywhere]
        if more:
            notes.append(f"left out, as not every run has it: {', '.join(more)} of {model.name}")
    return tuple(notes)
