"""Write a file atomically: it appears complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Yield a path that replaces ``file`` after the block, and is deleted if the block fails."""
    # Not a file of ``tempfile``, which only its owner may read.
    partial = file.with_name(f"{file.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(file)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
