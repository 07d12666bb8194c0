"""Strengths as they are typed: one list for all methods, and lists of named methods.

The command line imports this before it knows the command, so nothing heavy is imported at the top.
"""

from __future__ import annotations

import argparse

from bench.config import nearest, numbers
from bench.errors import UserError
from bench.options.typed import repeated


def of_method(text: str) -> tuple[str, tuple[float, ...]]:
    """Parse strengths, of a method if one is named before an equals sign."""
    method, equals, values = text.rpartition("=")
    if equals and not method:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no method before the equals sign, such as pattern=8,16"
        )
    return method, numbers(values)


def take_strengths(options: argparse.Namespace) -> None:
    """Set the plan's strengths from what was typed. Raises UserError for an unknown method."""
    from bench.interventions.arms import ALL_METHODS, CONTROLNET
    from probes.published_edit import PUBLISHED

    typed = dict(options.strengths or ())
    if method := repeated([name or "all methods" for name, _ in options.strengths or ()]):
        raise UserError(f"--strengths is given twice for {method}; give one list, such as 8,16")
    for method in typed:
        if method and method not in ALL_METHODS:
            raise UserError(
                f"--strengths: there is no method {method!r}{nearest(method, ALL_METHODS)}"
            )
    options.strengths = typed.pop("", None)
    options.published_strengths = typed.pop(PUBLISHED, None)
    options.controlnet_strengths = typed.pop(CONTROLNET, None)
    options.grids = tuple(typed.items()) or None
