"""Errors that end a command with one sentence and exit code 2.

    UserError            of the command line, a configuration file or a run folder (this package)
    ├── engines.errors.EngineError      of a model, an export or an engine
    ├── datasets.errors.DatasetError    of a dataset, a split or a labeler
    └── extract.errors.ExtractError     of stored work

The last three belong to their packages, which do not import this one.
"""

from __future__ import annotations


class UserError(Exception):
    """A request that cannot be met; the message says what, where and what to do."""


def user_errors() -> tuple[type[Exception], ...]:
    """Return the four exceptions above."""
    from datasets.errors import DatasetError
    from engines.errors import EngineError
    from extract.errors import ExtractError

    return UserError, EngineError, DatasetError, ExtractError
