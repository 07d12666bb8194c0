"""Edit activations by a run's probes while images are generated, and see whether the images follow."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.config import names, numbers, steps


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. Every default is None: the plan knows them."""
    add = parser.add_argument
    add(
        "run",
        type=Path,
        help="run folder; its probes edit, its engine generates, its labeler judges",
    )
    add("--task", help="whose probes to edit by (default saliency)")
    add("--methods", type=names, help="of weights,pattern,adam (default: all)")
    add("--strengths", type=numbers, help="multiples of the change after which the probe reads what is wanted "
        "(default 1,2,4,8,16; depth: 0.1 to 1.6)")  # fmt: skip
    add("--controls", type=names, help="of random,permuted,late (default: all); random goes with every strength, "
        "permuted and late with each method's strength that was chosen on the training items")  # fmt: skip
    add(
        "--layers",
        type=names,
        help="layers or blocks to edit, such as mid,up2 (default: the decoder; depth: all)",
    )
    add("--steps", type=steps, help="steps to edit, counted from 1 (default 1-5; depth: 1-3)")
    add(
        "--late-steps",
        type=steps,
        help="steps of the late control (default: the last third, 11-15 of 15)",
    )
    add("--items", type=int, help="test items (default 100; --sweep 8; --path 4)")
    add("--shifts", type=int, help="random shifts per item (default 5)")
    add("--choose-items", type=int, help="training items on which method and strength are chosen (default 20; "
        "0: choose on the test items)")  # fmt: skip
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
    add("--gif", type=Path, help="write the frames of a path to this GIF")


def goes_on(_: argparse.Namespace) -> bool:
    """Whether the same command goes on where it was stopped."""
    return True


def command(options: argparse.Namespace) -> int:
    """Run the experiment, the sweep or the path, and print what it found."""
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
    steps_of_run = [step + 1 for step in results.steps]
    plan = completed(plan, results.layers, steps_of_run, results.options["sampler_steps"])
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


def _refuse_ignored(options: argparse.Namespace) -> None:
    """Raise UserError for what only the experiment reads: a sweep and a path take one method at one strength."""
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
