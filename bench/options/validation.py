"""Validate options and stored JSON with pydantic, and say in one sentence what is wrong.

Nothing that ``--help`` loads imports this module at its top: pydantic takes as long as the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, create_model

from bench.errors import UserError

Stored = TypeVar("Stored", bound="Record")

_OPTIONS = ConfigDict(strict=True, extra="forbid", str_min_length=1, allow_inf_nan=False)


class OtherVersion(ValueError):
    """A file has another schema than the one that this version of scenebench reads."""

    def __init__(self, file: str, stored: int, read: int) -> None:
        self.file, self.stored, self.read = file, stored, read
        which = "a later" if self.is_later else "an earlier"
        super().__init__(
            f"{file}: {which} version of scenebench wrote it, as schema {stored}, and this "
            f"version reads {read}"
        )

    @property
    def is_later(self) -> bool:
        """Whether a later version wrote the file, so that this one has to be updated."""
        return self.stored > self.read


def remedy(error: Exception, otherwise: str) -> str:
    """Return what to do about a file that cannot be read: update, if a later version wrote it."""
    later = isinstance(error, OtherVersion) and error.is_later
    return "update scenebench" if later else otherwise


class Record(BaseModel):
    """A JSON file of a run folder. Files of later versions may have further keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    schema_read: ClassVar[int | None] = None
    """The number that the file states as its schema or version; None for files without one."""
    schema_unstated: ClassVar[int | None] = None
    """The schema of files that state none; None if they are read as those of ``schema_read``."""


class _Schema(Record):
    """What is read of a file first: files of other versions may differ in everything else."""

    stored: int | None = Field(default=None, validation_alias=AliasChoices("schema", "version"))


def read_record(kind: type[Stored], path: Path) -> Stored:
    """Read a JSON file.

    Raises OSError, OtherVersion, or another ValueError with what is wrong in the file.
    """
    try:
        content, read = path.read_bytes(), kind.schema_read
        if read is not None:
            stored = _Schema.model_validate_json(content).stored
            stored = kind.schema_unstated if stored is None else stored
            if stored is not None and stored != read:
                raise OtherVersion(path.name, stored, read)
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {_problem(error)}") from error


def finite(value: float) -> float | None:
    """A number as JSON and tables store it: None where it is undefined or infinite."""
    return value if isfinite(value) else None


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {message}" if place else message


def check_options(options: Any) -> None:
    """Check the fields of a dataclass whose fields are made by ``bench.config.option``.

    Raises UserError for the first value of the wrong type or out of bounds.
    """
    kind: Any = type(options)
    values = {field.name: getattr(options, field.name) for field in fields(kind)}
    try:
        _model_of(kind).model_validate(values)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        if not values[name] and isinstance(values[name], tuple):
            raise UserError(f"{name} is empty; name at least one, such as depth") from error
        raise UserError(f"{name} must be {_expected(kind, name)}, not {values[name]!r}") from error


@cache
def _model_of(kind: Any) -> type[BaseModel]:
    hints = get_type_hints(kind)
    definitions: dict[str, Any] = {}
    for field in fields(kind):
        bounds = field.metadata["option"]
        constraint = Field(ge=bounds.least, le=bounds.most, min_length=bounds.least_length)
        definitions[field.name] = (Annotated[hints[field.name], constraint], ...)
    return create_model(kind.__name__, __config__=_OPTIONS, **definitions)


def _expected(kind: type[Any], name: str) -> str:
    """Describe the values that an option takes."""
    metadata: Mapping[str, Any] = {field.name: field for field in fields(kind)}[name].metadata
    option, hint = metadata["option"], get_type_hints(kind)[name]
    if option.expected:
        return str(option.expected)
    accepted = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return "a list of names"
    if accepted == [int]:
        bounds = f"of at least {option.least}"
        if option.most is not None:
            bounds = f"from {option.least} to {option.most}"
        return f"a whole number {bounds}"
    return {bool: "true or false", float: "a number", str: "a name"}[accepted[0]]
