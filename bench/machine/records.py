"""The file of a measured machine: rates of every stage, with what they were measured on.

Times are in seconds, rates in operations or bytes per second (a multiplication and an addition are
two operations), sizes in bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from bench.environment import Environment
from bench.errors import UserError
from bench.options.validation import Record, read_record, remedy
from datasets.atomic_write import atomic_write
from engines.cache import default_cache

SCHEMA = 1
FILE = "machine.json"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FullSize(Record):
    """A network with Stable Diffusion v1's widths and random weights, in one engine."""

    what: str
    """The network in words."""
    flops_per_row: Positive
    rows: Annotated[int, Field(ge=1)]
    row_seconds: Positive
    share: Positive | None
    """Of the matrix peak in the engine's precision; None where that is unknown."""
    parameters: Annotated[int, Field(ge=1)]
    opening_seconds: Positive


class EngineRates(Record):
    """What one engine does with the shipped model."""

    name: str
    precision: str
    device: str
    errors: dict[str, NotNegative | None]
    """Per tap, and ``noise``: the largest relative error against PyTorch in fp32; None for nan."""
    rows: Annotated[int, Field(ge=1)]
    """Rows of the calls below."""
    row_seconds: Positive
    """With all taps."""
    untapped_row_seconds: Positive
    opening_seconds: Positive
    images: Annotated[int, Field(ge=1)]
    """Images of the two extractions below."""
    generation_seconds: Positive
    """Images generated, decoded and labelled."""
    extraction_seconds: Positive
    """The same, and statistics of every activation."""
    share: Positive | None
    """Of the matrix peak in the engine's precision; None where that is unknown."""
    full_size: FullSize | None = None
    """None for engines that were measured on the shipped model alone."""

    @property
    def worst_error(self) -> float:
        """The largest error; nan if any is."""
        values = list(self.errors.values())
        return (
            max((value for value in values if value is not None), default=0.0)
            if all(value is not None for value in values)
            else float("nan")
        )


class AtWidth(Record):
    """Statistics and probes of one width, on the device of the engine."""

    channels: Annotated[int, Field(ge=1)]
    columns: Annotated[int, Field(ge=1)]
    """Columns of the sums: channels, position and targets."""
    sum_seconds: Positive
    """Sums of one token in float64; a copy to the card is included."""
    read_seconds: Positive
    """All probes of a site applied to one token; a copy to the card is included."""
    eigenproblem_seconds: Positive
    """One symmetric eigenproblem in float64, with as many at once as a run has."""
    target_seconds: Positive
    """Weights of one column of targets for every penalty, and their losses, without that."""


class PartRates(Record):
    """A network beside the denoiser: autoencoder, text encoder."""

    name: str
    flops: Positive
    """Operations of one image or prompt."""
    seconds: Positive


class CopyRates(Record):
    """Bytes per second between host and card, as a run copies."""

    to_host: Positive
    """Through page-locked memory."""
    to_card: Positive
    """From ordinary memory."""


class Agreement(Record):
    """Scores of a small run with an engine, against those of the CPU's engine of the same items."""

    engine: str
    reference: str
    items: Annotated[int, Field(ge=1)]
    cells: Annotated[int, Field(ge=1)]
    largest: dict[str, NotNegative | None]
    """Task and metric -> largest absolute change of a cell's mean score; None where a score is
    undefined on one side alone."""


class Machine(Record):
    """A measured machine."""

    schema_read: ClassVar[int | None] = SCHEMA

    version: int
    environment: Environment
    threads: Annotated[int, Field(ge=1)]
    took_seconds: Positive
    model: str
    """The model of the engines' rates."""
    flops_per_row: Positive
    """Of that model."""
    parameters: Annotated[int, Field(ge=1)]
    """Of that model's denoiser."""
    tap_values: Annotated[int, Field(ge=1)]
    """Of one row of that model."""
    peaks: dict[str, Positive]
    """Precision and device -> rate of matrix products of random data, the best of several."""
    engines: Annotated[tuple[EngineRates, ...], Field(min_length=1)]
    """The one that a run would use first."""
    left_out: dict[str, str]
    """Usable engines that were not measured, and why."""
    statistics: Annotated[tuple[AtWidth, ...], Field(min_length=1)]
    autoencoder: Annotated[tuple[PartRates, ...], Field(min_length=1)]
    text: Annotated[tuple[PartRates, ...], Field(min_length=1)]
    pixel_seconds: dict[str, Positive]
    """Labeler -> seconds to label a pixel."""
    score_seconds: Annotated[dict[str, Positive], Field(min_length=1)]
    """Task -> seconds per cell, image and token."""
    target_seconds: Annotated[dict[str, Positive], Field(min_length=1)]
    """Task -> seconds per pixel of a target, on one grid."""
    sweep_seconds: Positive
    """Per cell, image and token: a mask's score at all candidate thresholds."""
    interval_seconds: Positive
    """Per cell, metric and image."""
    check_seconds: NotNegative
    """Sampler, joins and checks, per value of all taps."""
    storing_seconds: Positive
    """Sums written and read as often as a run does, per byte."""
    copies: CopyRates | None
    """None without a card."""
    card_bytes: int | None = None
    """Memory of the card."""
    agreement: Agreement | None = None
    """None without a card."""

    @property
    def main(self) -> EngineRates:
        """The engine of statistics, full-size rates and predictions."""
        return self.engines[0]


def default_file() -> Path:
    """The file in the cache folder."""
    return default_cache() / FILE


def write_machine(machine: Machine, path: Path) -> None:
    """Write the file. Raises UserError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_text(machine.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another --out") from error


def read_machine(path: Path) -> Machine:
    """Read the file. Raises UserError where it is missing, or no such file."""
    try:
        return read_record(Machine, path)
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); make it with python -m bench doctor --measure"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path} is no measured machine of this version ({error}); "
            + remedy(error, "make it with python -m bench doctor --measure")
        ) from error
