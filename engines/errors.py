"""The one exception that engines raise for what a user can mend."""

from __future__ import annotations


class EngineError(Exception):
    """A model, an export or an engine is not as needed; the message says what, where and what to do."""
