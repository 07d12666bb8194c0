"""Validate stored JSON with pydantic, and say in one sentence what is wrong.

Nothing that ``--help`` loads imports this module at its top: pydantic takes as long as the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Stored = TypeVar("Stored", bound="Record")


class Record(BaseModel):
    """A JSON file of a run folder. Files of later versions may have further keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def read_record(kind: type[Stored], path: Path) -> Stored:
    """Read a JSON file. Raises OSError, or ValueError with what is wrong in it."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path.name}: {_problem(error)}") from error


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    message = first["msg"][0].lower() + first["msg"][1:]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {message}" if place else message
