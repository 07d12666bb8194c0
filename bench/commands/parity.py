"""Hold an engine against PyTorch, per layer and step."""

from __future__ import annotations

import argparse
from dataclasses import replace

from bench.config import Config

_DEFAULT = Config()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", default=_DEFAULT.model)
    parser.add_argument("--engine", default=_DEFAULT.engine)
    parser.add_argument(
        "--items", type=int, default=4, help="items to generate (default %(default)s)"
    )


def command(options: argparse.Namespace) -> int:
    """Print the errors; 1 if one is beyond the limit."""
    from bench.errors import UserError
    from bench.profiling.parity import print_parity

    if options.items < 1:
        raise UserError(f"--items must be at least 1, not {options.items}")
    within = print_parity(
        replace(_DEFAULT, model=options.model, engine=options.engine), options.items
    )
    return 0 if within else 1
