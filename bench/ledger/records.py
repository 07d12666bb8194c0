"""``entry.json``: what a ledger keeps of a run, and what another machine needs to check it.

An entry is the folder ``<ledger>/<model>/<revision>/<dataset>/<fingerprint>/`` with

entry.json    this record
scores.npz    per task, the claimed cells' headline scores of every test image (cells x items, fp32)
probes.npz    the claimed cells' probes in fp64, so that a check fits nothing
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from bench.options.typed import repeated
from bench.options.validation import Record
from bench.steps import number_of
from extract.networks import TRAINED
from probes.probe_set import ALWAYS, PERMUTED

ENTRY, SCORES, PROBES = "entry.json", "scores.npz", "probes.npz"
SCHEMA = 2
"""Version of the three files."""


class ModelRecord(Record):
    """The model of an entry."""

    name: str
    """Name, hub id, or the name of its folder."""
    revision: str
    """Hash of all its weights."""


class DatasetRecord(Record):
    """The items of an entry."""

    name: str
    training_items: str
    """Number and hash of ids, prompts and seeds."""
    test_items: str


class LabelerRecord(Record):
    """What labelled the images."""

    name: str
    weights: str
    """The labeler's fingerprint: hashes of its weights, and its scale."""


class SamplerRecord(Record):
    """How the images were generated."""

    name: str
    source: str
    """``generated``, or ``rendered`` for rendered images that were noised."""
    guidance: float | None
    timesteps: tuple[float, ...]
    """The scheduler's value of every step."""
    sigmas: tuple[float, ...]
    """Noise level before every step."""
    log_snr: tuple[float | None, ...]
    """The same as the logarithm of the signal-to-noise ratio; None where it is infinite."""

    @model_validator(mode="after")
    def _one_value_per_step(self) -> SamplerRecord:
        if not 0 < len(self.sigmas) == len(self.timesteps) == len(self.log_snr):
            raise ValueError("timesteps, sigmas and log_snr need one value for every step")
        return self


class MachineRecord(Record):
    """What computed the scores; equal ones compute equal bits."""

    engine: str
    precision: str
    threads: int
    processor: str | None
    platform: str
    python: str
    gpus: tuple[str, ...]
    versions: dict[str, str]
    """Package -> version."""
    commit: str | None
    """Of the code, with a plus where files differed from it."""


class ItemRecord(Record):
    """A test item."""

    id: str
    key: str
    """Hash of its prompt and seed: equal items of two entries can be paired."""
    scores: str
    """Hash of the item's column of ``scores.npz``, over all tasks."""


class CellRecord(Record):
    """A claimed cell, with its mean over the test images and its 95 % interval."""

    network: str
    layer: str
    step: int
    """Counted from 1; 0 for a baseline that is the same at all steps."""
    probe: str
    draw: int
    side: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$")]
    """Tokens along a side, or rows and columns such as ``12x16``."""
    best: bool
    """Whether it has the least cross-validated loss of its network, step and kind of probe."""
    threshold: float | None
    mean: float | None
    low: float | None
    high: float | None

    @property
    def site(self) -> tuple[str, str, int, str, int]:
        """What tells it from the other cells of its task."""
        return self.network, self.layer, self.step, self.probe, self.draw

    @property
    def words(self) -> str:
        """The cell in words."""
        step = f" step {self.step}" if self.step else ""
        draw = f" {self.draw}" if self.draw else ""
        return f"{self.network} {self.layer}{step} {self.probe}{draw}"


class TaskRecord(Record):
    """A task's claimed cells, scored by its headline metric."""

    metric: str
    higher_is_better: bool
    unit: str
    cells: Annotated[tuple[CellRecord, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_cell_once(self) -> TaskRecord:
        if site := repeated(cell.site for cell in self.cells):
            raise ValueError(f"it has the cell {site} twice")
        best = [(cell.network, cell.step, cell.probe) for cell in self.cells if cell.best]
        if several := repeated(best):
            raise ValueError(f"two cells of {several} are marked as the best")
        if any(cell.best and cell.probe == PERMUTED for cell in self.cells):
            raise ValueError("a cell of permuted labels is marked as the best")
        return self


class EntryRecord(Record):
    """``entry.json``."""

    schema_read: ClassVar[int | None] = SCHEMA

    version: int = Field(alias="schema")
    tool: str
    """Version of scenebench that made the run."""
    fingerprint: str
    """Of the run: a hash of everything that determines its scores."""
    model: ModelRecord
    dataset: DatasetRecord
    labeler: LabelerRecord
    sampler: SamplerRecord
    machine: MachineRecord
    options: dict[str, Any]
    """The run's options that are not defaults; of paths, the last part."""
    layers: Annotated[dict[str, str], Field(min_length=1)]
    """Layer -> path of the tapped module, in the order of computation."""
    steps: Annotated[tuple[int, ...], Field(min_length=1)]
    """Probed steps, counted from 1."""
    items: Annotated[tuple[ItemRecord, ...], Field(min_length=1)]
    tasks: Annotated[dict[str, TaskRecord], Field(min_length=1)]
    caveats: tuple[str, ...]
    """What a reader of the scores has to know."""
    sha256: dict[str, str]
    """Checksums of the two other files, and of what this one says (:attr:`digest`)."""

    @model_validator(mode="after")
    def _fits_together(self) -> EntryRecord:
        steps = len(self.sampler.sigmas)
        if (
            list(self.steps) != sorted(set(self.steps))
            or not 1 <= min(self.steps) <= max(self.steps) <= steps
        ):
            raise ValueError(f"its steps are not rising numbers from 1 to {steps}")
        if name := repeated([item.id for item in self.items]):
            raise ValueError(f"it has the item {name} twice")
        for name, task in self.tasks.items():
            for cell in task.cells:
                if cell.step not in (number_of(ALWAYS), *self.steps):
                    raise ValueError(f"tasks.{name}: it has no step {cell.step}: {cell.words}")
                if cell.network == TRAINED and cell.layer not in self.layers:
                    raise ValueError(f"tasks.{name}: it has no layer {cell.layer}: {cell.words}")
        return self

    @property
    def digest(self) -> str:
        """Hash of everything in it but the checksum of itself."""
        fields = self.model_dump(mode="json", by_alias=True)
        fields["sha256"].pop(ENTRY, None)
        text = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
