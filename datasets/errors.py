"""The one exception that datasets and labelers raise for what a user can mend."""

from __future__ import annotations


class DatasetError(Exception):
    """A dataset, a split or a labeler is not as needed; the message says what, where and what to do."""
