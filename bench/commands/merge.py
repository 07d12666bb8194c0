"""Finish a run whose shards were made in parts."""

from __future__ import annotations

import argparse

from bench.commands.run import report
from bench.options.typed import typed_path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=typed_path, help="the run folder that the parts share")


def command(options: argparse.Namespace) -> int:
    """Fit and score from the shards, and print a summary; nothing is generated."""
    from dataclasses import replace

    from bench.run import run
    from bench.runs.folder import stored_config
    from bench.runs.workers import Merger

    folder = run(replace(stored_config(options.run), out=str(options.run)), Merger())
    report(folder.path)
    return 0
