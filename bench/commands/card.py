"""Measure the shipped model and labeler, for their model cards."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--limit",
        type=int,
        default=256,
        help="renders and samples to measure on (default %(default)s)",
    )
    parser.add_argument("--sheet", type=Path, help="write a sheet of samples to this PNG")


def command(options: argparse.Namespace) -> int:
    """Print the figures."""
    from bench.curation.model_card import print_card
    from bench.errors import UserError

    if options.limit < 1:
        raise UserError(f"--limit must be at least 1, not {options.limit}")
    print_card(options.limit, options.sheet)
    return 0
