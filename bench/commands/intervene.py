"""Edit activations by a run's probes during generation, and score the images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.config import names, numbers
from bench.options.typed import typed_path
from bench.steps import numbers_of, parse_steps

if TYPE_CHECKING:
    from bench.interventions.config import Plan
    from bench.runs.results import Results


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. Their default is None: the plan has the defaults."""
    add = parser.add_argument
    add(
        "run",
        type=typed_path,
        help="run folder; its probes edit, its engine generates, its labeler scores",
    )
    add("--task", help="task whose probes edit (default saliency)")
    add("--methods", type=names, help="of weights,pattern,adam (default: all)")
    add(
        "--strengths",
        type=numbers,
        help="multiples of the change after which the probe predicts the target "
        "(default 1,2,4,8,16; depth: 0.1 to 1.6)",
    )
    add(
        "--controls",
        type=names,
        help="of random,permuted,late (default: all); random runs at every strength, permuted and "
        "late at the strength of each method that was chosen on training items",
    )
    add(
        "--layers",
        type=names,
        help="layers or blocks to edit, such as mid,up2 (default: the decoder; depth: all)",
    )
    add("--steps", type=parse_steps, help="steps to edit, counted from 1 (default 1-5; depth: 1-3)")
    add(
        "--late-steps",
        type=parse_steps,
        help="steps of the late control (default: the last third, 11-15 of 15)",
    )
    add("--items", type=int, help="test items (default 100; --sweep 8; --path 4)")
    add("--shifts", type=int, help="random shifts per item (default 5)")
    add(
        "--choose-items",
        type=int,
        help="training items on which method and strength are chosen (default 20; 0: choose on the "
        "test items)",
    )
    add("--batch", type=int, help="trials generated together (default 30)")
    add("--threads", type=int, help="CPU threads (default: all cores)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--sweep", action="store_true", help="compare blocks of layers and windows of steps instead"
    )
    how.add_argument(
        "--path", choices=("circle", "line"), help="move the object along a path instead"
    )
    add("--frames", type=int, default=16, help="frames of a path (default %(default)s)")
    add("--gif", type=typed_path, help="write the frames of a path to this GIF")


def resumes(_: argparse.Namespace) -> bool:
    """Whether the same command continues where it was stopped."""
    return True


def command(options: argparse.Namespace) -> int:
    """Run the experiment, the sweep or the path, and print its results."""
    from bench.errors import UserError
    from bench.interventions.config import Plan, completed, refuse_run
    from bench.interventions.runner import open_editable
    from bench.runs.folder import RunFolder
    from bench.runs.results import read_results

    if options.gif and not options.path:
        raise UserError("--gif needs frames: give a path too, such as --path circle")
    if options.sweep or options.path:
        _refuse_ignored(options)
    results = read_results(options.run)
    few = 8 if options.sweep else 4 if options.path else None
    items = few if options.items is None else options.items
    typed = {name: getattr(options, name) for name in Plan.__slots__ if name != "items"} | {
        "items": items
    }
    plan = Plan(**{name: value for name, value in typed.items() if value is not None})
    refuse_run(results, plan.task)
    numbers_of_run = numbers_of(results.steps)
    plan = completed(plan, results.layers, numbers_of_run, results.config.sampler_steps)
    if not (options.sweep or options.path):
        plan = _without_absent_control(plan, results)
    run = open_editable(results, options.threads)
    with RunFolder(results.path).locked():
        if options.sweep:
            from bench.interventions.sweep import print_sweep

            print_sweep(run, plan, options.methods, options.strengths)
        elif options.path:
            from bench.interventions.path import print_path

            print_path(run, plan, options)
        else:
            from bench.interventions.experiment import experiment
            from bench.interventions.records import task_folder
            from bench.interventions.summary import print_summary

            print_summary(experiment(run, plan), task_folder(results.path, plan.task))
    return 0


def _without_absent_control(plan: Plan, results: Results) -> Plan:
    """Leave out the control of permuted labels, with a word, where the run has no such probes."""

    from probes.probe_set import PERMUTED

    task = results.tasks.get(plan.task)
    if task is None or task.where(probe=PERMUTED, draw=1):
        return plan
    if PERMUTED in (plan.controls or ()):
        print(
            f"the control {PERMUTED} is left out: {results.path} has too few training items for "
            "probes of permuted labels"
        )
    return replace(plan, controls=tuple(x for x in plan.controls or () if x != PERMUTED))


def _refuse_ignored(options: argparse.Namespace) -> None:
    """Raise UserError for options of the experiment that a sweep or a path does not use."""
    from bench.errors import UserError

    how = "--sweep" if options.sweep else "--path"
    for name in ("controls", "choose_items", "late_steps"):
        if getattr(options, name) is not None:
            raise UserError(f"{how} does not use --{name.replace('_', '-')}; leave it out")
    for name in ("methods", "strengths"):
        if len(getattr(options, name) or ()) > 1:
            raise UserError(
                f"{how} takes one of --{name}, not {len(getattr(options, name))}; name one"
            )
