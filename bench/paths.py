"""Paths as people type them: ``~`` stands for the home folder, also where no shell expands it."""

from __future__ import annotations

from pathlib import Path


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
