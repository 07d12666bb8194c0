"""Parse what people type: lists of names and numbers, paths with ``~``, and misspelt names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path


def names(text: str) -> tuple[str, ...]:
    """Parse names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers(text: str) -> tuple[float, ...]:
    """Parse numbers between commas."""
    try:
        parsed = tuple(float(name) for name in names(text))
    except ValueError:
        parsed = ()
    if not parsed:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 1,2,4")
    return parsed


def parse_size(text: str) -> tuple[int, ...]:
    """Parse a height, or a height and a width, in pixels: 512 or 512x768."""
    try:
        return tuple(int(part) for part in text.lower().replace(",", "x").split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; give a height, or a height and a width, such as 512x768"
        ) from None


def nearest(name: str, choices: Sequence[str]) -> str:
    """End a sentence about an unknown name: with the nearest name, or with all of them."""
    close = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(choices)}"


def expanded(text: str) -> str:
    """Return the text with a leading ``~`` or ``~name`` replaced, where there is such a home."""
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        # There is no such user: the name is taken literally.
        return text


def typed_path(text: str) -> Path:
    """Parse a path from the command line."""
    return Path(expanded(text))
