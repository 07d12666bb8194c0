"""Finish a run whose shards were made in parts."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=Path, help="the run folder that the parts share")


def command(options: argparse.Namespace) -> int:
    """Solve, score and write what the shards say, and print it; nothing is generated."""
    from bench.config import config_of
    from bench.report.html import write_report
    from bench.report.tables import print_run
    from bench.run import run
    from bench.runs.folder import stored_options
    from bench.runs.results import read_results
    from bench.runs.workers import Merger

    folder = run(config_of(stored_options(options.run) | {"out": str(options.run)}), Merger())
    results = read_results(folder.path)
    page = write_report(results)
    print_run(results)
    print(f"\nresults in {folder.path}, report: {page}")
    return 0
