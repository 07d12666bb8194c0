"""Generate, probe, score: the experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.command_line import add_options, typed_options
from bench.config import Config, config_of, quick, read_toml
from bench.errors import UserError
from bench.options.typed import typed_path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--config",
        type=typed_path,
        help="TOML file with any of these options; the command line takes precedence",
    )
    add("--quick", action="store_true", help="fewer items and steps: under a minute")
    add_options(parser)
    add(
        "--part",
        help="make only this part of the shards, such as 3/8, beside other parts; then merge",
    )


def config_from(options: argparse.Namespace) -> Config:
    """Return the configuration: typed options, then those of the file, then defaults."""
    chosen = read_toml(options.config) if options.config else {}
    is_quick = chosen.pop("quick", False)
    if not isinstance(is_quick, bool):
        raise UserError(f"quick must be true or false, not {is_quick!r}")
    config = config_of(chosen | typed_options(options, "config", "quick", "part"))
    return quick(config) if is_quick or options.quick else config


def resumes(_: argparse.Namespace) -> bool:
    """Whether the same command continues where it was stopped."""
    return True


def command(options: argparse.Namespace) -> int:
    """Run the experiment and print a summary."""
    from bench.run import run
    from bench.runs.workers import IncompleteError, joined, part_of

    config = config_from(options)
    if options.part:
        try:
            folder = run(config, part_of(options.part))
        except IncompleteError as waiting:
            print(waiting)
        else:
            print(f"all shards exist; finish with: python -m bench merge {folder.path}")
        return 0
    with joined() as workers:
        folder = run(config, workers)
        if workers.leads:
            report(folder.path)
    return 0


def report(folder: Path) -> None:
    """Write the report of a finished run and print its summary."""
    from bench.labeling import brightness_stands_in
    from bench.report.html import write_report
    from bench.report.summary import print_summary
    from bench.runs.results import read_results

    results = read_results(folder)
    print_summary(results, write_report(results))
    if brightness_stands_in(results.config):
        print("the images' brightness stood in for labels of depth and saliency")
