"""Write report.html and findings.json of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--poster", type=Path, help="write the film strips to this PNG as well")


def command(options: argparse.Namespace) -> int:
    """Write the page, and the poster if it was requested."""
    from bench.report.html import write_report
    from bench.runs.results import read_results

    results = read_results(options.run)
    print(write_report(results))
    if options.poster:
        from bench.report.poster import write_poster

        print(write_poster(results, options.poster))
    return 0
