"""Edit activations by a run's probes during generation, and score the images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.config import names, numbers
from bench.interventions.typed_strengths import of_method, take_strengths
from bench.options.typed import output_file, typed_path
from bench.steps import numbers_of, parse_steps

if TYPE_CHECKING:
    from bench.interventions.config import Plan
    from bench.runs.results import Results

_FRAMES = 16


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. Their default is None: the plan has the defaults."""
    add = parser.add_argument
    add(
        "run",
        type=typed_path,
        help="run folder; its probes edit, its engine generates, its labeler scores",
    )
    add("--task", help="task whose probes edit (default saliency)")
    add(
        "--methods",
        type=names,
        help="of weights,pattern,ridge-adam (by the run's ridge probes), published (the paper's "
        "probes and edit), controlnet (default: all that there are for the model and the task)",
    )
    add(
        "--target",
        help="what the edit aims at: shifted (default); depth: also farther, nearer, tilted",
    )
    add(
        "--unfiltered",
        action="store_true",
        default=None,
        help="draw shifts as the paper does, also those that leave less than 75 %% of the object "
        "in the image",
    )
    add(
        "--strengths",
        action="append",
        type=of_method,
        metavar="[METHOD=]STRENGTHS",
        help="of edits by ridge probes: multiples of the change after which the probe predicts the "
        "target (default 4 to 64, doubling; depth: 0.0125 to 0.2). METHOD=16,32 is of that method "
        "alone, and the option may be repeated; published=1 by default, as the paper has no "
        "strength, and controlnet=0.25,0.5,1 scales the ControlNet's outputs",
    )
    add(
        "--extend",
        type=int,
        help="double a method's largest strength up to so often, until its score on the training "
        "items falls or its damage is large (default 2; 0 where --strengths names strengths of the "
        "probes' own methods)",
    )
    add(
        "--controlnet",
        type=typed_path,
        help="folder of a diffusers ControlNet of the run's model, trained on masks or on inverse "
        "depth times 0.5 m (default: the shipped one)",
    )
    add(
        "--damages",
        type=numbers,
        help="damages at which methods are compared; no edit beyond the last is chosen if there "
        "are others (default 0.05,0.1); --attributes: the change of the image, one number (default "
        "0.1)",
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
        help="layers or blocks to edit, such as mid,up2 (default: the decoder, or a transformer's "
        "later half; depth: all)",
    )
    add("--steps", type=parse_steps, help="steps to edit, counted from 1 (default 1-5; depth: 1-3)")
    add(
        "--late-steps",
        type=parse_steps,
        help="steps of the late control (default: the last third, 11-15 of 15)",
    )
    add(
        "--items",
        type=int,
        help="test items (default 100; --sweep, --map and --attributes 8; --path 4)",
    )
    add("--shifts", type=int, help="random shifts per item, of --target shifted (default 5)")
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
        "--sweep",
        action="store_true",
        help="compare all blocks of layers and windows of steps instead",
    )
    how.add_argument(
        "--map",
        action="store_true",
        help="compare where and when the probes read with where and when edits act instead",
    )
    how.add_argument(
        "--attributes",
        action="store_true",
        help="edit colour, shape, floor, wall and light instead, and measure all of them",
    )
    how.add_argument(
        "--path",
        choices=("circle", "line"),
        help="move the object along a path instead, by one or several --methods",
    )
    add("--frames", type=int, help=f"frames of a path (default {_FRAMES})")
    add("--gif", type=output_file(".gif"), help="write the frames of a path to this GIF")
    add(
        "--figure",
        type=output_file(".png"),
        help="draw both maps to this PNG (needs the extra plot)",
    )


def resumes(_: argparse.Namespace) -> bool:
    """Whether the same command continues where it was stopped."""
    return True


def command(options: argparse.Namespace) -> int:
    """Run the experiment, or what is chosen instead, and print its results."""
    from bench.errors import UserError
    from bench.interventions.arms import CONTROLNET
    from bench.interventions.config import DEFAULT_TARGET, Plan, completed, refuse_run
    from bench.interventions.controlnet import folder_for
    from bench.interventions.runner import open_editable
    from bench.runs.folder import RunFolder
    from bench.runs.results import read_results

    for name in ("gif", "frames"):
        if getattr(options, name) is not None and not options.path:
            raise UserError(f"--{name} is of a path: give that too, such as --path circle")
    if options.figure and not options.map:
        raise UserError("--figure draws the maps of --map; give that too")
    if options.shifts is not None and options.target not in (None, DEFAULT_TARGET):
        raise UserError(
            f"--shifts is of shifts, and the target is {options.target}, one per item; "
            "leave --shifts out"
        )
    special = options.sweep or options.path or options.map or options.attributes
    take_strengths(options)
    if special:
        _refuse_ignored(options)
    # Of an experiment, the default methods are all.
    methods = options.methods or (() if options.path else (CONTROLNET,))
    if options.controlnet and CONTROLNET not in methods:
        raise UserError(
            f"--controlnet is for --methods {CONTROLNET}; add that, or leave --controlnet out"
        )
    if options.frames is not None and options.frames < 3:
        raise UserError(f"--frames must be at least 3, not {options.frames}")
    results = read_results(options.run)
    few = 4 if options.path else 8 if special else None
    items = few if options.items is None else options.items
    typed = {name: getattr(options, name, None) for name in Plan.__slots__} | {"items": items}
    plan = Plan(**{name: value for name, value in typed.items() if value is not None})
    refuse_run(results, plan.task)
    numbers_of_run = numbers_of(results.steps)
    if options.sweep or options.map:
        plan = replace(plan, layers=results.layers, steps=numbers_of_run)
    controlnet = (
        None
        if options.attributes
        else folder_for(results.config.model, plan.task, options.controlnet)
    )
    plan = completed(
        plan,
        results.layers,
        numbers_of_run,
        results.config.sampler_steps,
        controlnet is not None,
    )
    if not special:
        if options.controls is None and not plan.late_steps:
            print("the control late is left out: the run has no probes of later steps")
        plan = _without_absent_control(plan, results)
    with RunFolder(results.path).locked():
        run = open_editable(results, options.threads, plan, controlnet)
        if options.sweep:
            from bench.interventions.sweep import print_sweep

            print_sweep(run, plan, options.methods, options.strengths)
        elif options.attributes:
            from bench.interventions.attributes import print_attributes

            print_attributes(run, plan)
        elif options.map:
            from bench.interventions.maps import print_maps

            print_maps(run, plan, options.methods, options.strengths, options.figure)
        elif options.path:
            from bench.interventions.path import print_path

            if options.frames is None:
                options.frames = _FRAMES
            print_path(run, plan, options)
        else:
            from bench.interventions.experiment import experiment
            from bench.interventions.records import task_folder
            from bench.interventions.summary import print_summary

            print_summary(experiment(run, plan), task_folder(results.path, plan.name))
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
    """Raise UserError for options of the experiment that a sweep, a map or a path does not use."""
    from bench.errors import UserError

    mode = next(name for name in _IGNORED if getattr(options, name))
    for name in _IGNORED[mode]:
        if getattr(options, name) is not None:
            raise UserError(f"--{mode} does not use {_typed(name)}; leave it out")
    single = {"attributes": ("damages",), "path": ("strengths",)}
    for name in single.get(mode, ("methods", "strengths")):
        if len(getattr(options, name) or ()) > 1:
            raise UserError(
                f"--{mode} takes one of {_typed(name)}, not {len(getattr(options, name))}; name one"
            )


def _typed(name: str) -> str:
    """An option as it is typed."""
    if name == "grids" or name.endswith("_strengths"):
        return "strengths of named methods"
    return f"--{name.replace('_', '-')}"


_BY_EXPERIMENT = (
    *("controls", "choose_items", "late_steps", "extend"),
    *("published_strengths", "controlnet_strengths", "grids"),
)
_OVER_CELLS = (*_BY_EXPERIMENT, "damages", "controlnet", "layers", "steps")
_IGNORED = {
    "sweep": _OVER_CELLS,
    "map": _OVER_CELLS,
    "attributes": (
        *(*_BY_EXPERIMENT, "strengths", "controlnet", "task", "methods"),
        *("target", "unfiltered", "shifts", "batch"),
    ),
    "path": (*_BY_EXPERIMENT, "damages", "target", "unfiltered", "shifts"),
}
"""What is done instead of the experiment, and the options that it does not use."""
