"""What the trainers' commands share: checked numbers, and errors that end with a sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engines.errors import EngineError


def at_least(least: int) -> Callable[[str], int]:
    """A type of argparse: a whole number that is not below ``least``."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
        return int(text)

    return number


@contextmanager
def errors_in_words(parser: argparse.ArgumentParser) -> Iterator[None]:
    """End the program with the sentence of an EngineError that the block raises."""
    try:
        yield
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
