"""Parse what people type: lists of names and numbers, paths with ``~``, and misspelt names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Hashable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from bench.errors import UserError


def parts(text: str) -> tuple[str, ...]:
    """Return what lies between commas, without spaces around it."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def names(text: str) -> tuple[str, ...]:
    """Parse names between commas, at least one; a name that stands there twice counts once."""
    parsed = tuple(dict.fromkeys(parts(text)))
    if not parsed:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; give names between commas")
    return parsed


def numbers(text: str) -> tuple[float, ...]:
    """Parse numbers between commas, at least one."""
    try:
        parsed = tuple(float(part) for part in parts(text))
    except ValueError:
        parsed = ()
    if not parsed:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 1,2,4")
    return parsed


def repeated(values: Iterable[Hashable]) -> Hashable | None:
    """Return the first value that occurs a second time; None if there is none."""
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


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
    """Parse a path from the command line. Raises UserError where the system takes no such name."""
    path = Path(expanded(text))
    try:
        path.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{text} cannot be used as a path ({reason}); choose another") from error
    return path


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a parser of a file to write, which refuses what could not be written after the work.

    The parser raises UserError. ``suffixes``, such as ``.png``, are those that the file may have;
    without any it may have all.
    """

    def parse(text: str) -> Path:
        path = typed_path(text)
        if suffixes and path.suffix.lower() not in suffixes:
            raise UserError(
                f"{text} does not end in {' or '.join(suffixes)}, as its format does; rename it"
            )
        if path.is_dir():
            raise UserError(f"{text} is a folder; name a file in it")
        _refuse_unwritable(text, path.parent)
        return path

    return parse


def output_folder(text: str) -> Path:
    """Parse a folder to write in, and refuse one that could not be written after the work.

    Raises UserError.
    """
    path = typed_path(text)
    _refuse_unwritable(text, path)
    return path


def _refuse_unwritable(text: str, folder: Path) -> None:
    """Try to write where the folder is, or will be made; nothing stays."""
    # Not for commands that write no such file: it takes longer to import than the options.
    import tempfile

    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = "is no folder" if folder.is_file() else f"is not writable ({error.strerror})"
        raise UserError(f"cannot write {text}: {folder} {why}; choose another") from error
