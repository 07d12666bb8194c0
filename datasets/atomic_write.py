"""Write a file or a table atomically: it appears complete or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table atomically; a column that a row lacks stays empty. Raises OSError."""
    with atomic_write(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
