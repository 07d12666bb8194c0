"""How lists are typed on the command line, and the options that several commands share."""

from __future__ import annotations

import argparse

from bench.config import MOST_STEPS

FORMATS = ("simple", "github")
"""Of tables: for a terminal, for a page in Markdown."""


def names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def steps(text: str) -> tuple[int, ...]:
    """Steps and ranges of steps, such as ``1,2,5`` or ``1-5``; counted from 1."""
    found: list[int] = []
    for part in names(text):
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last if dash else first)
            # A range of billions would fill the memory; what lies beyond the most is refused by its first step.
            some = range(low, min(high, max(low, MOST_STEPS + 1)) + 1)
        except ValueError:
            some = range(0)
        if not some:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a step or a range of steps; steps are counted from 1, such as 1,2,5 or 1-5"
            )
        found.extend(some)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no step; name some, such as 1,2,5 or 1-5")
    return tuple(found)


def numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        found = tuple(float(name) for name in names(text))
    except ValueError:
        found = ()
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 1,2,4")
    return found


def dataset_files(parser: argparse.ArgumentParser) -> None:
    """Declare where a dataset's files come from. No default: only what was typed is in the namespace's values."""
    parser.add_argument("--prompts", help="folder of the dataset's files, where it is read from files")
    parser.add_argument("--fetch", action="store_true", default=None, help="download the dataset's files, once")


def labeler_sources(parser: argparse.ArgumentParser) -> None:
    """Declare the networks of a labeler that leaves the choice."""
    parser.add_argument("--depth-model", help="transformers folder or hub id (default: the labeler's)")
    parser.add_argument("--depth-scale", type=numbers, metavar="MEAN,STD", help="of that model's inverse depth")
    parser.add_argument("--saliency-model", help="ONNX file of a salient-object network")
    parser.add_argument("--saliency-size", type=int, help="height and width that it is given (default 512)")
