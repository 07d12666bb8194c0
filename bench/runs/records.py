"""The JSON files of a run folder, as models: ``config.json`` and ``run.json``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from bench.options.typed import repeated
from bench.options.validation import Record
from bench.runs.overlap import Overlap

RUN_SCHEMA = 4
"""Version of ``run.json``."""

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class StoredConfig(Record):
    """``config.json``: the run that a folder belongs to."""

    fingerprint: str
    """Hash of everything that determines the scores."""
    options: dict[str, Any]
    facts: dict[str, str | int | float]
    """Everything that determines the scores; long facts as a hash."""
    overlap: Overlap | None = None
    """What training and test items share; None in folders of earlier versions."""
    tasks: dict[str, str] | None = None
    """Task -> hash of its code; None in folders of earlier versions."""


class StoredTask(Record):
    """A task in ``run.json``."""

    metrics: Names
    """The headline metric first."""
    higher_is_better: tuple[bool, ...]
    unit: str

    @model_validator(mode="after")
    def _one_direction_per_metric(self) -> StoredTask:
        if len(self.higher_is_better) != len(self.metrics):
            raise ValueError("it needs as many directions as metrics")
        return self


class RunRecord(Record):
    """``run.json``: what a finished run recorded, its cost, and checksums of its files."""

    schema_read: ClassVar[int | None] = RUN_SCHEMA

    version: int = Field(alias="schema")
    tasks: Annotated[dict[str, StoredTask], Field(min_length=1)]
    layers: Names
    """In the order of computation."""
    steps: Annotated[tuple[int, ...], Field(min_length=1)]
    """Probed steps, counted from 0."""
    networks: Names
    guidance: float | None
    """None without a second half of the batch."""
    timesteps: tuple[float, ...] = ()
    """Of every step of the sampler, probed or not."""
    sigmas: tuple[float, ...] = ()
    """Noise level of the latents that a step reads, in the sampler's own scale."""
    log_snr: tuple[float | None, ...] = ()
    """Logarithm of signal over noise (variances) at every step; null for pure noise, where it is
    minus infinity, and for a sigma of 0, where it is infinite."""
    conditions: dict[str, str | int | float] = Field(default_factory=dict)
    """What has to be equal for scores to be comparable (see runs/conditions.py)."""
    train_items: tuple[str, ...]
    test_items: Names
    item_keys: tuple[str, ...] = ()
    """Hash of every test item's prompt and seed, in their order; none in runs of earlier versions.
    """
    strip_prompts: tuple[str, ...]
    seconds: float
    """Summed over the processes that worked on the run."""
    peak_bytes: int
    """Of the process that needed most memory."""
    processes: int
    threads: int
    """Of each process."""
    world: int
    """Ranks that worked side by side."""
    sha256: dict[str, str]
    """File -> checksum, for the tables and tensors."""

    @model_validator(mode="after")
    def _one_noise_level_per_step(self) -> RunRecord:
        count = len(self.timesteps)
        if not len(self.sigmas) == len(self.log_snr) == count or 0 < count <= max(self.steps):
            raise ValueError("it needs a timestep, a sigma and a log_snr for every step, or none")
        return self

    @model_validator(mode="after")
    def _each_item_once(self) -> RunRecord:
        if item := repeated((*self.train_items, *self.test_items)):
            raise ValueError(f"it has the item {item} twice")
        if len(self.item_keys) not in (0, len(self.test_items)):
            raise ValueError("it needs one key for every test item")
        return self
