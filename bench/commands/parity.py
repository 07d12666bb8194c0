"""Compare an engine with PyTorch, per layer and step."""

from __future__ import annotations

import argparse

from bench.command_line import add_options, typed_options
from bench.config import config_of


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser, "model", "engine", "sampler_steps")
    parser.add_argument(
        "--items", type=int, default=4, help="items to generate (default %(default)s)"
    )


def command(options: argparse.Namespace) -> int:
    """Print the errors; 1 if one is beyond the limit."""
    from bench.errors import UserError
    from bench.profiling.parity import print_parity

    if options.items < 1:
        raise UserError(f"--items must be at least 1, not {options.items}")
    config = config_of(typed_options(options, "items"))
    return 0 if print_parity(config, options.items) else 1
