"""How lists are typed on the command line."""

from __future__ import annotations

import argparse


def names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def steps(text: str) -> tuple[int, ...]:
    """Steps and ranges of steps, such as ``1,2,5`` or ``1-5``; counted from 1."""
    found: list[int] = []
    for part in names(text):
        first, dash, last = part.partition("-")
        try:
            found.extend(range(int(first), int(last) + 1) if dash else [int(first)])
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a step or a range of steps; steps are counted from 1, such as 1,2,5 or 1-5"
            ) from None
    return tuple(found)


def numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        return tuple(float(name) for name in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 1,2,4") from None
