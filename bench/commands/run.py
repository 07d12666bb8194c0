"""Generate, probe, score: the experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.config import (
    ALL,
    COMPARISONS,
    SOURCES,
    WEIGHTS,
    Config,
    config_of,
    dataset_files,
    labeler_sources,
    names,
    quick,
    read_toml,
    steps,
)
from bench.errors import UserError

_DEFAULT = Config()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. Every default is None: only what was typed overrides the configuration file."""
    add = parser.add_argument
    add("--config", type=Path, help="TOML file with any of these options; the command line wins")
    add("--quick", action="store_true", help="fewer items and steps: under a minute")
    add("--model", help=f"name, diffusers folder or hub id (default {_DEFAULT.model})")
    add(
        "--weights",
        help=f"{' or '.join(WEIGHTS)}: the architecture without a download (default {_DEFAULT.weights})",
    )
    add("--engine", help=f"what executes the UNet (default {_DEFAULT.engine})")
    add("--dataset", help=f"prompts and seeds: a name, or a CSV file (default {_DEFAULT.dataset})")
    dataset_files(parser)
    add("--labeler", help="what reads the images (default: the model's)")
    labeler_sources(parser)
    add(
        "--tasks",
        type=names,
        help=f"what probes predict, such as {','.join(_DEFAULT.tasks)} (the default)",
    )
    add(
        "--layers",
        type=names,
        help="layers or blocks to probe, such as mid,up2 or up3.1 (default: all)",
    )
    add(
        "--steps",
        type=steps,
        help="steps to probe, counted from 1, such as 1,2,5 or 1-5 (default: all)",
    )
    add("--sampler-steps", type=int, help=f"denoising steps (default {_DEFAULT.sampler_steps})")
    add(
        "--guidance", type=float, help="strength of classifier-free guidance (default: the model's)"
    )
    add("--limit", type=int, help="use only so many items, training and test together")
    add(
        "--source",
        help=f"{' or '.join(SOURCES)}: generated images, or rendered ones noised to every step",
    )
    add(
        "--random-networks",
        type=int,
        help=f"networks of permuted weights beside it (default {_DEFAULT.random_networks})",
    )
    add("--compare", type=names, help=f"what else to watch: {', '.join(COMPARISONS)}, or {ALL}")
    add("--batch", type=int, help=f"rows per engine call (default {_DEFAULT.batch})")
    add("--shard", type=int, help=f"items per shard (default {_DEFAULT.shard})")
    add(
        "--part",
        help="make only this part of the shards, such as 3/8, beside other parts; then merge",
    )
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add("--out", help="run folder (default: one in runs/, named after the configuration)")


def config_from(options: argparse.Namespace) -> Config:
    """The configuration: what was typed over what the file says over the defaults."""
    typed = {name: value for name, value in vars(options).items() if value is not None}
    for name in ("command", "config", "quick", "part"):
        typed.pop(name, None)
    chosen = read_toml(options.config) if options.config else {}
    is_quick = chosen.pop("quick", False)
    if not isinstance(is_quick, bool):
        raise UserError(f"quick must be true or false, not {is_quick!r}")
    config = config_of(chosen | typed)
    return quick(config) if is_quick or options.quick else config


def goes_on(_: argparse.Namespace) -> bool:
    """Whether the same command goes on where it was stopped."""
    return True


def command(options: argparse.Namespace) -> int:
    """Run the experiment and print what it found."""
    from bench.report.html import write_report
    from bench.report.tables import print_run
    from bench.run import run
    from bench.runs.results import read_results
    from bench.runs.workers import IncompleteError, joined, part_of

    config = config_from(options)
    if options.part:
        try:
            print(
                f"all shards are there; finish with: python -m bench merge {run(config, part_of(options.part)).path}"
            )
        except IncompleteError as waiting:
            print(waiting)
        return 0
    with joined() as workers:
        folder = run(config, workers)
        if not workers.leads:
            return 0
    results = read_results(folder.path)
    page = write_report(results)
    print_run(results)
    print(f"\nresults in {folder.path}, report: {page}")
    for line in caveats(config):
        print(line)
    return 0


def caveats(config: Config) -> list[str]:
    """What must be said beside the scores."""
    from bench.labeling import STAND_IN

    stands_in = config.labeler == STAND_IN or (config.weights == "random" and not config.labeler)
    if not stands_in or config.source == "rendered":
        return []
    return ["the images' brightness stood in for labels of depth and saliency"]
