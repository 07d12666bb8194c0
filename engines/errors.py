"""The exception that engines raise for errors that a user can correct."""

from __future__ import annotations


class EngineError(Exception):
    """A model, an export or an engine cannot be used; the message says why and what to do."""
