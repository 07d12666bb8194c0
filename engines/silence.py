"""Silence the logs of diffusers and transformers for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

_SILENT = 50
"""A level above all at which the libraries log."""


@contextmanager
def silenced() -> Iterator[None]:
    """Silence the libraries' logs: an EngineError reports their errors once."""
    libraries = diffusers_logging, transformers_logging
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity(_SILENT)
    try:
        yield
    finally:
        for library, level in zip(libraries, before, strict=True):
            library.set_verbosity(level)
