"""The intervention experiment: choose an edit on training items, test it on test items."""

from __future__ import annotations

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from bench.errors import UserError
from bench.interventions.arms import CONTROLNET, Arm, EditProbes
from bench.interventions.config import Plan
from bench.interventions.curves import curves_of, turned
from bench.interventions.grid import GRID, Grid, write_grid
from bench.interventions.records import SCHEMA, SUMMARY, ChosenEdit, Summary, task_folder
from bench.interventions.reference import metric_of
from bench.interventions.runner import (
    EditableRun,
    edits,
    movable,
    open_probes,
    run_arms,
    with_controls,
)
from bench.interventions.targets import aimed
from bench.interventions.trials import Trials
from datasets.atomic_write import atomic_write
from extract.shards import set_default_permissions
from probes.edit import METHODS

TRIALS, CHOICE = "trials.csv", "choice.csv"
"""The trials on test items, and those on the training items of the choice."""
_TURN = 2.5
"""Strengths are doubled no further once the damage is this many times the largest stated one."""


def experiment(run: EditableRun, plan: Plan) -> Summary:
    """Run the experiment, or finish an interrupted one, and write its files."""
    arms = with_controls(plan, set(edits(plan)))
    probes = open_probes(run, plan.task, arms, plan.shifts)
    plan, choice = _choose(run, probes, plan)
    # Trials generated here are stored, and read again below.
    limit = plan.damages[-1]
    chosen_on = choice or run_arms(run, probes, "test", plan.items, plan, with_controls(plan))
    best = {method: chosen_on.best(limit, method) for method in plan.methods}
    arms = with_controls(plan, set(best.values()))
    test = run_arms(run, probes, "test", plan.items, plan, arms)
    own = [name for name in plan.methods if name != CONTROLNET]
    chosen = (choice or test).best(limit, *(own or plan.methods))
    strengths = {method: arm.strength for method, arm in best.items()}
    summary = _summary(plan, chosen, strengths, choice, test)
    _write(run, plan, chosen, choice, test, summary)
    return summary


def _choose(run: EditableRun, probes: EditProbes, plan: Plan) -> tuple[Plan, Trials | None]:
    """Run the edits on training items, and double strengths while the score rises."""
    if not plan.choose_items:
        return plan, None
    grids = {method: plan.strengths_of(method) for method in plan.methods}
    trials = run_arms(run, probes, "train", plan.choose_items, plan, edits(plan))
    for _ in range(plan.extend or 0):
        rising = [
            method
            for method in plan.methods
            if method in METHODS and not turned(trials, method, _TURN * plan.damages[-1])
        ]
        if not rising:
            break
        grids |= {method: (*grids[method], 2 * max(grids[method])) for method in rising}
        plan = plan.with_grids(grids)
        trials = run_arms(run, probes, "train", plan.choose_items, plan, edits(plan))
    return plan, trials


def _summary(
    plan: Plan, chosen: Arm, best: dict[str, float], choice: Trials | None, test: Trials
) -> Summary:
    curves, contests = curves_of(test, plan)
    return Summary(
        schema=SCHEMA,
        task=plan.task,
        headline=test.headline,
        higher_is_better=metric_of(test.task).higher_is_better,
        plan=plan,
        test_items=tuple(item.id for item in test.items),
        prompts=tuple(item.prompt for item in test.items),
        choose_items=tuple(item.id for item in choice.items) if choice else (),
        chosen=ChosenEdit(
            method=chosen.method,
            strength=chosen.strength,
            layers=chosen.layers,
            steps=chosen.step_numbers,
        ),
        best_strengths=best,
        permutations=test.permutations,
        choice=choice.records() if choice else (),
        arms=test.records(),
        curves=curves,
        contests=contests,
        seconds_per_trial=test.seconds(),
        seconds_by_method={method: test.seconds(method) for method in plan.methods},
    )


def _write(
    run: EditableRun,
    plan: Plan,
    chosen: Arm,
    choice: Trials | None,
    test: Trials,
    summary: Summary,
) -> None:
    folder = task_folder(run.results.path, plan.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A summary is never beside the trials of another plan, wherever this ends.
        (folder / SUMMARY).unlink(missing_ok=True)
        test.write_csv(folder / TRIALS)
        if choice is None:
            (folder / CHOICE).unlink(missing_ok=True)
        else:
            choice.write_csv(folder / CHOICE)
        grid = _grid(run, plan, chosen, test)
        with atomic_write(folder / f"{GRID}.safetensors") as partial:
            save_file(grid.tensors(), partial)
            set_default_permissions(partial)
        write_grid(grid, folder / f"{GRID}.png")
        with atomic_write(folder / SUMMARY) as partial:
            partial.write_text(summary.text(), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write to {folder} ({error}); mend it and run again: nothing is lost"
        ) from error


def _grid(run: EditableRun, plan: Plan, chosen: Arm, test: Trials) -> Grid:
    """Show the first items before and after the chosen edit of their first shift."""
    edited = test.shown[chosen]
    n = len(edited["image"])
    originals, offsets = movable(run, "test", max(n, 2), plan.shifts, plan.target, plan.unfiltered)
    images = originals.images[:n]
    labels = run.study.reader(images)
    first = [shifts[0] for shifts in offsets[:n]]
    targets = aimed(plan.target, labels, first, originals.items[:n], run.study.reader.scale)
    return Grid(
        np.round(images.numpy() * 255).astype(np.uint8),
        test.task.target(labels).float().numpy(),
        test.task.target(targets).float().numpy(),
        edited["image"].numpy(),
        edited["label"].numpy(),
    )
