"""The one exception that extraction raises for what a user can mend."""

from __future__ import annotations


class ExtractError(Exception):
    """Stored work is damaged or cannot be written; the message says what, where and what to do."""
