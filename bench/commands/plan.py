"""Estimate work, memory, disk and time of a run, without running it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bench.commands import run
from bench.config import Config
from bench.options.typed import names, typed_path

if TYPE_CHECKING:
    from bench.machine.records import Machine
    from bench.planning.gpus import Gpu
    from bench.planning.plan import Plan

_GIB, _GB = 2**30, 10**9
_OWN = ("gpu", "machine", "sample")
"""Options that are not those of run."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of run, and three more."""
    run.arguments(parser)
    parser.add_argument(
        "--sample",
        type=int,
        help="items generated to time each stage (default: a block, about 8; 0 counts only)",
    )
    parser.add_argument(
        "--gpu",
        type=names,
        help="also estimate every stage on GPUs, such as h100 or h100,4090, from published peaks",
    )
    parser.add_argument(
        "--machine",
        type=typed_path,
        metavar="FILE",
        help="also estimate every stage from a file of doctor --measure",
    )


def command(options: argparse.Namespace) -> int:
    """Print the plan; what it generates is not kept."""
    from tabulate import tabulate

    from bench.errors import UserError
    from bench.machine.records import read_machine
    from bench.planning.advice import NOT_GENERATED, advice_on, sum_table, weights_of
    from bench.planning.estimate import plan_of
    from bench.planning.gpus import gpu_named

    machine = None if options.machine is None else read_machine(options.machine)
    gpus = [gpu_named(name) for name in options.gpu or ()]
    if options.part:
        raise UserError(
            "a plan is of the whole run; leave --part out, and divide its time by the parts"
        )
    sample = options.sample
    if sample is not None and (sample < 0 or sample == 1):
        raise UserError(
            f"--sample {sample}: controls permute labels, which takes at least 2 items; "
            "or 0 for none"
        )
    of_run = {name: value for name, value in vars(options).items() if name not in _OWN}
    config = run.config_from(argparse.Namespace(**of_run))
    plan = plan_of(config, sample)
    work = f"{plan.flops / 1e12:,.2f} TFLOP ({plan.flops_per_row / 1e9:,.2f} GFLOP per row)"
    decoding = (
        f"{plan.decoding_flops / 1e12:,.2f} TFLOP ({plan.flops_per_decoding / 1e9:,.2f} GFLOP each)"
    )
    embedding = (
        f"{plan.prompt_flops / 1e12:,.2f} TFLOP ({plan.flops_per_prompt / 1e9:,.2f} GFLOP each)"
    )
    facts = [
        ["training and test items", f"{plan.train_items} + {plan.test_items}"],
        ["image-steps", f"{plan.image_steps:,}"],
        ["denoiser rows", f"{plan.engine_rows:,}"],
        ["their work", work],
        ["prompts embedded", f"{plan.prompts:,}"],
        ["their work", embedding],
        ["latents decoded", f"{plan.decodings:,}"],
        ["their work", decoding],
        ["parameters", weights_of(plan.sizes)],
    ]
    here = plan.measured
    if here:
        facts += [
            ["memory", f"{here.memory_bytes / _GIB:.1f} GiB at the peak"],
            ["disk", f"{here.disk_bytes / _GIB:.2f} GiB until the shards are deleted"],
        ]
    print(tabulate(facts, tablefmt="plain", disable_numparse=True))
    headers, sums = sum_table(plan.sizes)
    aligned = ["left", *["right"] * (len(headers) - 1)]
    print()
    print(tabulate(sums, headers=headers, disable_numparse=True, colalign=aligned))
    if advice := advice_on(plan.sizes, config.width):
        print(f"\n{advice}")
    if here is None and sample != 0:
        print(f"\n{NOT_GENERATED}")
    if here:
        rows = []
        for term in here.terms:
            seconds = [f"{term.each_seconds:.3g}", f"{term.seconds:.1f}"]
            rows.append([term.what, f"{term.count:,.0f} {term.unit}", *seconds])
        rows.append(["in all", "", "", f"{here.seconds:.1f}"])
        headers = ["on this machine", "", "s each", "s"]
        aligned = ["left", "right", "right", "right"]
        print()
        print(tabulate(rows, headers=headers, disable_numparse=True, colalign=aligned))
    if machine is not None:
        print(f"\n{_on_machine(plan, config, machine)}")
    for gpu in gpus:
        print(f"\n{_on_gpu(plan, gpu)}")
    return 0


def _on_machine(plan: Plan, config: Config, machine: Machine) -> str:
    """Every stage on a measured machine, and what is left out."""
    from bench.labeling import labeler_of
    from bench.machine.measured import measured_rates, notes
    from bench.machine.stages import stages_of
    from bench.machine.tables import stage_table
    from bench.model import model_spec

    labeler = labeler_of(config, model_spec(config.model))
    rates = measured_rates(machine, plan, config.engine, labeler)
    lines = [stage_table(rates.name, [("measured", stages_of(plan, rates))])]
    return "\n".join([*lines, *notes(machine, plan, config.engine, labeler)])


def _on_gpu(plan: Plan, gpu: Gpu) -> str:
    """Every stage on a card in both precisions, its memory, and what is assumed."""
    from bench.machine.published import PRECISIONS, assumptions, published_rates, value_bytes
    from bench.machine.stages import card_bytes, stages_of
    from bench.machine.tables import stage_table
    from bench.planning.gpus import fits_on

    columns = [
        (precision, stages_of(plan, published_rates(gpu, precision))) for precision in PRECISIONS
    ]
    memory = [
        f"{card_bytes(plan, value_bytes(precision)) / _GB:.1f} GB in {precision}"
        for precision in PRECISIONS
    ]
    lines = [
        stage_table(f"{gpu.name}, not measured", columns),
        f"card memory: {' or '.join(memory)}, of {gpu.gigabytes} GB, without the working memory "
        "of layers",
        fits_on(gpu, *plan.sizes.half_bytes, 2 * plan.sizes.tap_values),
    ]
    return "\n".join([*lines, "assumptions:", *(f"- {line}" for line in assumptions(gpu))])
