"""The exception that datasets and labelers raise for errors that a user can correct."""

from __future__ import annotations


class DatasetError(Exception):
    """A dataset, a split or a labeler cannot be used; the message says why and what to do."""
