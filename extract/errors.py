"""The exception that extraction raises for a problem that the user can fix."""

from __future__ import annotations


class ExtractError(Exception):
    """A stored shard is damaged or cannot be written; the message names the file and the remedy."""
