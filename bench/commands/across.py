"""Compare models that were run on the same items, at equal noise levels.

Reads finished runs of several models over the same prompts and seeds, and writes tables (Markdown,
CSV, JSON) and a figure: scores by noise level and their differences between architectures,
objectives, seeds and stages of training; the order in which attributes emerge; and what two models
share of an item, for which some test items are generated again by every model.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from bench.command_line import add_options, flag
from bench.config import COMMAND, names, numbers
from bench.options.typed import output_folder, typed_path

OUT = Path("runs/across")
ITEMS = 64
"""A pair of the shipped models takes about two minutes on one thread."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=typed_path, nargs="+", help="run folder of a model")
    parser.add_argument(
        "--out",
        type=output_folder,
        default=OUT,
        help="folder (default %(default)s)",
    )
    parser.add_argument("--tasks", type=names, help="compare only these (default: all shared)")
    parser.add_argument(
        "--log-snr",
        type=numbers,
        metavar="LEVELS",
        help="noise levels, as --log-snr=-4,-2,0 (default -4,-2,0,2,4, where all runs have them)",
    )
    parser.add_argument(
        "--items",
        type=int,
        default=ITEMS,
        help="test items that every model generates again (default %(default)s; 0: none)",
    )
    add_options(parser, "threads")


def resumes(options: argparse.Namespace) -> bool:
    """Whether the same command continues where it was stopped."""
    return True


def command(options: argparse.Namespace) -> int:
    """Compare, write and print a summary."""
    from bench.config import config_of
    from bench.errors import UserError

    config_of({"threads": options.threads})
    if options.threads is not None and not options.items:
        raise UserError("--threads is for items that are generated; leave it or --items 0 out")
    from bench.across.comparison import across
    from bench.across.findings import sentences
    from bench.across.write import write_across
    from bench.runs.results import read_results

    runs = [read_results(path) for path in options.run]
    result = across(
        runs, options.out, options.tasks, options.log_snr, options.items, options.threads
    )
    paths = write_across(result, options.out, _typed(options))
    for sentence in sentences(result):
        print(sentence)
    print(f"files: {', '.join(path.name for path in paths)} in {options.out}")
    return 0


def _typed(options: argparse.Namespace) -> str:
    """Return the command, for the document."""
    words = [COMMAND, "across", *(shlex.quote(str(path)) for path in options.run)]
    for name in ("tasks", "log_snr"):
        if (value := getattr(options, name)) is not None:
            words.append(f"{flag(name)}={','.join(map(str, value))}")
    if options.items != ITEMS:
        words.append(f"--items {options.items}")
    if options.out != OUT:
        words.append(f"--out {shlex.quote(str(options.out))}")
    return " ".join(words)
