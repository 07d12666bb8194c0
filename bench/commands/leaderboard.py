"""Print the tables of a run, or of several runs side by side."""

from __future__ import annotations

import argparse

from bench.config import FORMATS
from bench.options.typed import typed_path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=typed_path, nargs="+", help="run folder")
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="for a terminal, or Markdown"
    )


def command(options: argparse.Namespace) -> int:
    """Print one run, or several side by side."""
    from bench.report.tables import print_comparison, print_run
    from bench.runs.results import read_results

    runs = [read_results(path) for path in options.run]
    if len(runs) == 1:
        print_run(runs[0], options.format)
    else:
        print_comparison(runs, options.format)
    return 0
