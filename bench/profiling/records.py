"""The profile folder's files: every clock reading as it was taken, and the facts that belong to it.

profile.json    environment, options, the model's work, the machine's peaks; per engine precision, parity, memory
samples.csv     one row per clock reading: what, engine, rows, images, round, step, seconds
layers.csv      one row per engine, step and module of its own time, where the engine gives such times
modules.csv     one row per module of the UNet: its own operations, the size of its output

Times are seconds, sizes bytes, work floating-point operations (a multiplication and an addition are two). Everything
that is printed is derived from these files. A folder with ``profile.json`` is finished.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.errors import MistakeError
from datasets.atomic_write import atomic_write

SCHEMA = 1
PROFILE, SAMPLES, LAYERS, MODULES = "profile.json", "samples.csv", "layers.csv", "modules.csv"
FILES = (PROFILE, SAMPLES, LAYERS, MODULES)
NO_STEP = -1
"""The step of a sample that covers no single step."""

OPENING, FIRST, STEP, UNTAPPED = "opening", "first call", "step", "step without taps"
"""Making an engine ready (compiling included); then single calls: the first of a batch size, in steady state, and of an
engine that was opened without taps."""
EXTRACTION, PAINTING = "extraction", "painting"
"""``images`` painted, decoded and labelled, with and without the reducers that take the probes' statistics."""
HOOKS_ONE, HOOKS_BATCHED = "hooks, image by image", "hooks, batched"
"""``images`` painted by diffusers' pipeline, and labelled, with forward hooks that keep every activation."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One clock reading."""

    what: str
    engine: str
    rows: int
    """Rows per engine call; an image is two rows under guidance."""
    images: int
    """Images that the reading covers; 0 for single calls."""
    round: int
    step: int
    """0 to T-1, or ``NO_STEP``."""
    seconds: float


@dataclass(frozen=True, slots=True)
class LayerSample:
    """A module's own time (without its children) in one call."""

    engine: str
    rows: int
    step: int
    timestep: float
    module: str
    """Path inside the UNet; empty for what belongs to none."""
    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ModuleWork:
    """What one module of the UNet does for one row and step."""

    module: str
    flops: int
    """Floating-point operations, without its children's."""
    bytes: int
    """Size of its output in fp32; 0 where it is no tensor."""


@dataclass(frozen=True, slots=True)
class ScoreChange:
    """How far a run's probes score differently on this engine's activations than on PyTorch's."""

    task: str
    metric: str
    cells: int
    items: int
    mean: float
    """Over cells, of the score's change (mean over items)."""
    largest: float
    """Over cells, of its absolute value."""


@dataclass(frozen=True, slots=True)
class ParityFacts:
    """Relative errors against PyTorch in fp32; see bench/profiling/parity.py."""

    given: dict[str, list[float]]
    """Per layer, and ``noise``: one value per step, on PyTorch's latents (teacher-forced)."""
    own: list[float]
    """Of the latents after every step, on the engine's own trajectory (free-running)."""
    untapped: float | None = None
    """Of the noise prediction of the tapped engine against the untapped one."""
    scores: list[ScoreChange] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """Memory of one engine in a process of its own."""

    rows: int
    weights_bytes: int
    """Parameters and buffers of the UNet, as stored in fp32."""
    taps_bytes: int
    """Tap outputs of one call."""
    io_bytes: int
    """Inputs and the noise prediction of one call."""
    opened_bytes: int
    """Resident memory that opening the engine added to the loaded model."""
    peak_bytes: int | None
    """Peak resident memory during calls, above what it was once the engine was open; None where it cannot be read."""
    device_bytes: int | None = None
    """Memory of the accelerator that opening and calls took, allocators' reserves included; None on the CPU."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What belongs to an engine's times."""

    precision: str
    device: str
    parity: ParityFacts
    memory: MemoryFacts | None = None
    coverage: float | None = None
    """Sum of the modules' own times over the calls' total; None where the engine gives no such times."""


@dataclass(frozen=True, slots=True)
class Work:
    """Size of the UNet's work."""

    parameters: int
    flops_per_row: int
    """Floating-point operations of one row and step, attention included."""
    attention_flops_per_row: int
    """Of these, the two matrix products of scaled dot-product attention."""
    taps: dict[str, int]
    """Per layer, the bytes of its tap per row and step in fp32."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of an extrapolation: count x mean of its samples."""

    name: str
    count: int
    unit: str
    samples: list[float]
    """Seconds per unit."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A finished profile."""

    environment: dict[str, Any]
    options: dict[str, Any]
    """As resolved: model, weights, engines, batch, items, rounds, threads, steps, guidance."""
    work: Work
    peaks: dict[str, list[float]]
    """Per precision, the machine's matrix-product rate (FLOP/s), one value per round."""
    engines: dict[str, EngineFacts]
    samples: tuple[Sample, ...]
    layers: tuple[LayerSample, ...] = ()
    modules: tuple[ModuleWork, ...] = ()
    authors: list[Term] = field(default_factory=list)
    """The published procedure, measured on a few cells; empty when it was not asked for."""
    ours: list[Term] = field(default_factory=list)
    """What a run of the same items needs besides its extraction."""

    def seconds(self, what: str, engine: str, rows: int) -> NDArray[np.float64]:
        """Readings of one kind, rounds x readings per round, in the order in which they were taken."""
        mine = [s for s in self.samples if (s.what, s.engine, s.rows) == (what, engine, rows)]
        rounds = sorted({sample.round for sample in mine})
        table = [[sample.seconds for sample in mine if sample.round == number] for number in rounds]
        return np.array(table, dtype=np.float64).reshape(len(rounds), len(mine) // max(len(rounds), 1))

    def rows_of(self, what: str, engine: str) -> tuple[int, ...]:
        """The batch sizes at which there are such readings."""
        return tuple(sorted({s.rows for s in self.samples if (s.what, s.engine) == (what, engine)}))


def write_profile(folder: Path, profile: Profile) -> Path:
    """Write the files, ``profile.json`` last. Raises MistakeError when the folder cannot be written."""
    facts = {"schema": SCHEMA} | {
        name: asdict(profile)[name]
        for name in ("environment", "options", "work", "peaks", "engines", "authors", "ours")
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_rows(folder / SAMPLES, Sample, profile.samples)
        _write_rows(folder / LAYERS, LayerSample, profile.layers)
        _write_rows(folder / MODULES, ModuleWork, profile.modules)
        with atomic_write(folder / PROFILE) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise MistakeError(f"cannot write the profile to {folder} ({error.strerror}); choose another --out") from error
    return folder / PROFILE


def read_profile(folder: Path) -> Profile:
    """Read a profile folder. Raises MistakeError when it is none or does not hold together."""
    if not (folder / PROFILE).is_file():
        raise MistakeError(f"{folder} is no profile folder: it has no {PROFILE}; make one with python -m bench profile")
    try:
        facts = json.loads((folder / PROFILE).read_text(encoding="utf-8"))
        if facts["schema"] != SCHEMA:
            raise MistakeError(
                f"{folder} has profile schema {facts['schema']}, this version reads {SCHEMA}; profile again"
            )
        return Profile(
            environment=facts["environment"],
            options=facts["options"],
            work=Work(**facts["work"]),
            peaks=facts["peaks"],
            engines={name: _engine_facts(entry) for name, entry in facts["engines"].items()},
            samples=_read_rows(folder / SAMPLES, Sample),
            layers=_read_rows(folder / LAYERS, LayerSample),
            modules=_read_rows(folder / MODULES, ModuleWork),
            authors=[Term(**term) for term in facts["authors"]],
            ours=[Term(**term) for term in facts["ours"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MistakeError(f"the profile folder {folder} is damaged ({error}); profile again") from error


def _engine_facts(entry: dict[str, Any]) -> EngineFacts:
    parity, memory = entry["parity"], entry["memory"]
    scores = [ScoreChange(**change) for change in parity["scores"]]
    return EngineFacts(
        entry["precision"],
        entry["device"],
        ParityFacts(parity["given"], parity["own"], parity["untapped"], scores),
        MemoryFacts(**memory) if memory else None,
        entry["coverage"],
    )


Row = TypeVar("Row", Sample, LayerSample, ModuleWork)


def _write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [entry.name for entry in fields(kind)])
        writer.writeheader()
        for row in rows:
            writer.writerow(asdict(row))


def _read_rows(path: Path, kind: type[Row]) -> tuple[Row, ...]:
    readers = {"int": int, "float": float, "str": str}
    columns: Sequence[tuple[str, Any]] = [(entry.name, readers[str(entry.type)]) for entry in fields(kind)]
    with path.open(newline="", encoding="utf-8") as stream:
        return tuple(kind(**{name: read(row[name]) for name, read in columns}) for row in csv.DictReader(stream))
