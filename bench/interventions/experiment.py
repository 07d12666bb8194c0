"""The intervention experiment: choose an edit on training items, test it on test items."""

from __future__ import annotations

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from bench.errors import UserError
from bench.interventions.arms import Arm
from bench.interventions.config import Plan
from bench.interventions.grid import GRID, Grid, write_grid
from bench.interventions.records import SCHEMA, SUMMARY, ChosenEdit, Summary, task_folder
from bench.interventions.runner import EditableRun, edits, movable, run_arms, with_controls
from bench.interventions.shifts import moved
from bench.interventions.trials import Trials
from bench.runs.probes import StoredProbes
from extract.shards import set_default_permissions

TRIALS = "trials.csv"


def experiment(run: EditableRun, plan: Plan) -> Summary:
    """Run the experiment, or finish an interrupted one, and write its files."""
    probes = StoredProbes(run.results, plan.task)
    choice = None
    if plan.choose_items:
        choice = run_arms(run, probes, "train", plan.choose_items, plan, edits(plan))
    # Trials generated here are stored, and read again below.
    trials = choice or run_arms(run, probes, "test", plan.items, plan, with_controls(plan))
    arms = with_controls(plan, {trials.best(method) for method in plan.methods})
    test = run_arms(run, probes, "test", plan.items, plan, arms)
    chosen = (choice or test).best()
    summary = _summary(plan, chosen, choice, test)
    _write(run, plan, chosen, test, summary)
    return summary


def _summary(plan: Plan, chosen: Arm, choice: Trials | None, test: Trials) -> Summary:
    return Summary(
        schema=SCHEMA,
        task=plan.task,
        headline=test.headline,
        higher_is_better=test.task.metrics[0].higher_is_better,
        plan=plan,
        test_items=tuple(item.id for item in test.items),
        choose_items=tuple(item.id for item in choice.items) if choice else (),
        chosen=ChosenEdit(
            method=chosen.method,
            strength=chosen.strength,
            layers=chosen.layers,
            steps=chosen.step_numbers,
        ),
        choice=choice.records() if choice else (),
        arms=test.records(),
        seconds_per_trial=test.seconds(),
    )


def _write(run: EditableRun, plan: Plan, chosen: Arm, test: Trials, summary: Summary) -> None:
    folder = task_folder(run.results.path, plan.task)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        test.write_csv(folder / TRIALS)
        grid = _grid(run, plan, chosen, test)
        save_file(grid.tensors(), folder / f"{GRID}.safetensors")
        set_default_permissions(folder / f"{GRID}.safetensors")
        write_grid(grid, folder / f"{GRID}.png")
        (folder / SUMMARY).write_text(summary.text(), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write to {folder} ({error}); mend it and run again: nothing is lost"
        ) from error


def _grid(run: EditableRun, plan: Plan, chosen: Arm, test: Trials) -> Grid:
    """Show the first items before and after the chosen edit of their first shift."""
    edited = test.shown[chosen]
    n = len(edited["image"])
    originals, offsets = movable(run, "test", max(n, 2), plan.shifts)
    images = originals.images[:n]
    labels = run.study.reader(images)
    targets = moved(labels, [shifts[0] for shifts in offsets[:n]])
    return Grid(
        np.round(images.numpy() * 255).astype(np.uint8),
        test.task.target(labels).float().numpy(),
        test.task.target(targets).float().numpy(),
        edited["image"].numpy(),
        edited["label"].numpy(),
    )
