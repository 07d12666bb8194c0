"""Say what a run will take, before it runs: work, memory, disk and time."""

from __future__ import annotations

import argparse

from bench.commands import run

_GIB = 2**30


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of run, and two more."""
    run.arguments(parser)
    parser.add_argument(
        "--sample", type=int, help="items painted to time each stage (default: a block, about 8; 0 counts only)"
    )
    parser.add_argument("--gpu", help="also say how long its networks take on a GPU, such as h100, a100 or 4090")


def command(options: argparse.Namespace) -> int:
    """Print the plan; nothing of it is kept."""
    from tabulate import tabulate

    from bench.errors import MistakeError
    from bench.planning.estimate import plan_of
    from bench.planning.gpus import gpu_named, times_on

    gpu = gpu_named(options.gpu) if options.gpu else None
    if options.part:
        raise MistakeError("a plan is of the whole run; leave --part out, and divide what is painted by the parts")
    sample = options.sample
    if sample is not None and (sample < 0 or sample == 1):
        raise MistakeError(f"--sample {sample}: controls exchange labels, which takes at least 2 items; or 0 for none")
    of_run = {name: value for name, value in vars(options).items() if name not in ("gpu", "sample")}
    config = run.config_from(argparse.Namespace(**of_run))
    plan = plan_of(config, sample)
    facts = [
        ["training and test items", f"{plan.train_items} + {plan.test_items}"],
        ["image-steps", f"{plan.image_steps:,}"],
        ["UNet rows", f"{plan.engine_rows:,}"],
        ["their work", f"{plan.flops / 1e12:,.2f} TFLOP ({plan.flops_per_row / 1e9:,.2f} GFLOP per row)"],
        ["latents decoded", f"{plan.decodings:,}"],
        ["their work", f"{plan.decoding_flops / 1e12:,.2f} TFLOP ({plan.flops_per_decoding / 1e9:,.2f} GFLOP each)"],
    ]
    here = plan.measured
    if here:
        facts += [
            ["memory", f"{here.memory_bytes / _GIB:.1f} GiB at the peak"],
            ["disk", f"{here.disk_bytes / _GIB:.2f} GiB until the shards are deleted"],
        ]
    print(tabulate(facts, tablefmt="plain", disable_numparse=True))
    if here:
        rows = [[term.what, f"{term.count:,.0f} {term.unit}", f"{term.each_seconds:.3g}", f"{term.seconds:.1f}"]
                for term in here.terms]  # fmt: skip
        rows.append(["in all", "", "", f"{here.seconds:.1f}"])
        print()
        print(tabulate(rows, headers=["on this machine", "", "s each", "s"], disable_numparse=True,
                       colalign=("left", "right", "right", "right")))  # fmt: skip
    if gpu:
        print(f"\n{times_on(gpu, plan.flops, plan.decoding_flops)}")
    return 0
