"""Estimate work, memory, disk and time of a run, without running it."""

from __future__ import annotations

import argparse

from bench.commands import run
from bench.options.typed import names

_GIB = 2**30


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of run, and two more."""
    run.arguments(parser)
    parser.add_argument(
        "--sample",
        type=int,
        help="items generated to time each stage (default: a block, about 8; 0 counts only)",
    )
    parser.add_argument(
        "--gpu",
        type=names,
        help="also estimate the time of its networks on GPUs, such as h100 or h100,4090",
    )


def command(options: argparse.Namespace) -> int:
    """Print the plan; what it generates is not kept."""
    from tabulate import tabulate

    from bench.errors import UserError
    from bench.planning.advice import NOT_GENERATED, advice_on, sum_table, weights_of
    from bench.planning.estimate import plan_of
    from bench.planning.gpus import fits_on, gpu_named, times_on

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
    of_run = {name: value for name, value in vars(options).items() if name not in ("gpu", "sample")}
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
    for gpu in gpus:
        taps = 2 * plan.sizes.tap_values
        print(f"\n{times_on(gpu, plan.flops, plan.decoding_flops + plan.prompt_flops)}")
        print(fits_on(gpu, *plan.sizes.half_bytes, taps))
    return 0
