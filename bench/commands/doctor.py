"""What works on this machine, and what is missing."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def command(_: argparse.Namespace) -> int:
    """Print the findings; 2 if the default run could not work."""
    from bench.doctor import print_doctor

    return print_doctor()
