"""Remove what a finished run no longer needs."""

from __future__ import annotations

from contextlib import suppress

from bench.errors import UserError
from bench.runs.folder import RunFolder
from extract.shards import Shards


def clean(folder: RunFolder, fingerprint: str) -> None:
    """Remove shards and partial files; call it only with the folder locked."""
    Shards(folder.path / "shards", fingerprint).remove()
    folder.tidy()


def clean_if_free(folder: RunFolder, fingerprint: str) -> None:
    """Remove what a killed process left, unless another command is writing in the folder."""
    with suppress(UserError), folder.locked():
        clean(folder, fingerprint)
