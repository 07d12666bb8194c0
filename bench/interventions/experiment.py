"""The intervention experiment: choose method and strength on training items, test them on test items, write and say."""

from __future__ import annotations

import json

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from bench.errors import UserError
from bench.interventions.config import Plan
from bench.interventions.grid import Grid, write_grid
from bench.interventions.runner import Bench, edits, movable, run_arms, with_controls
from bench.interventions.shifts import moved
from bench.interventions.summary import GRID, SUMMARY, TRIALS, Outcome, summary, task_folder
from bench.runs.probes import StoredProbes
from extract.shards import set_default_permissions


def experiment(bench: Bench, plan: Plan) -> Outcome:
    """Run the experiment, or go on with it, and write its files."""
    probes = StoredProbes(bench.results, plan.task)
    chosen_on = (
        run_arms(bench, probes, "train", plan.choose_items, plan, edits(plan))
        if plan.choose_items
        else None
    )
    # What is generated here lies on disk, and is read again below.
    choice = chosen_on or run_arms(bench, probes, "test", plan.items, plan, with_controls(plan))
    arms = with_controls(plan, {choice.best(method) for method in plan.methods})
    test = run_arms(bench, probes, "test", plan.items, plan, arms)
    outcome = Outcome(plan, (chosen_on or test).best(), chosen_on, test)
    _write(bench, outcome)
    return outcome


def _write(bench: Bench, outcome: Outcome) -> None:
    folder = task_folder(bench.results.path, outcome.plan.task)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        outcome.test.write_csv(folder / TRIALS)
        grid = _grid(bench, outcome)
        save_file(grid.tensors(), folder / f"{GRID}.safetensors")
        set_default_permissions(folder / f"{GRID}.safetensors")
        write_grid(grid, folder / f"{GRID}.png")
        text = json.dumps(summary(outcome), indent=1)
        (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write to {folder} ({error}); mend it and run again: nothing is lost"
        ) from error


def _grid(bench: Bench, outcome: Outcome) -> Grid:
    """The first items' images before and after the chosen edit, with their labels and the wanted ones."""
    test = outcome.test
    shown = test.shown[outcome.chosen]
    n = len(shown["image"])
    originals, offsets = movable(bench, "test", max(n, 2), outcome.plan.shifts)
    originals = originals.take(range(n))
    labels = bench.study.reader(originals.images)
    wanted = moved(labels, [moves[0] for moves in offsets[:n]])
    return Grid(
        np.round(originals.images.numpy() * 255).astype(np.uint8),
        test.task.target(labels).float().numpy(),
        test.task.target(wanted).float().numpy(),
        shown["image"].numpy(),
        shown["label"].numpy(),
    )
