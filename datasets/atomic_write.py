"""Write a file so that it appears whole or not at all, whoever looks or dies meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to: it becomes ``file`` when the block ends, and goes when the block fails."""
    # Not of tempfile's making: nobody else could read it.
    partial = file.with_name(f"{file.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(file)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
