"""Read the entries of a ledger."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError
from bench.ledger.facts import changed_names
from bench.ledger.records import (
    ENTRY,
    PROBES,
    SCORES,
    CellRecord,
    EntryRecord,
    TaskRecord,
)
from bench.options.validation import read_record, remedy
from engines import checksum
from extract.networks import TRAINED
from probes.bootstrap import intervals
from probes.probe_set import ACTIVATIONS

Arrays = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Entry:
    """An entry of a ledger."""

    path: Path
    record: EntryRecord

    @property
    def name(self) -> str:
        """Its folder below the ledger: model, revision, dataset and fingerprint."""
        return "/".join(self.path.parts[-4:])

    @cached_property
    def scores(self) -> Arrays:
        """Per task, the scores of the claimed cells (cells x items). Raises UserError."""
        stored = read_arrays(self.path / SCORES)
        for name, task in self.record.tasks.items():
            shape = (len(task.cells), len(self.record.items))
            if name not in stored or stored[name].shape != shape:
                raise UserError(
                    f"{self.path / SCORES} has no table of {name} of {shape[0]} cells x {shape[1]} "
                    "items; submit the run again"
                )
        return stored

    @cached_property
    def rows(self) -> dict[str, int]:
        """Item -> its column; items of the same key in two entries are the same."""
        return {f"{item.id} {item.key}": row for row, item in enumerate(self.record.items)}

    def at(self, task: str, step: int) -> tuple[CellRecord, NDArray[np.float64]] | None:
        """Return the best layer's cell at a step (counted from 1) and its scores."""
        if task not in self.record.tasks:
            return None
        for row, cell in enumerate(self.record.tasks[task].cells):
            if (cell.network, cell.step, cell.probe) == (TRAINED, step, ACTIVATIONS) and cell.best:
                return cell, self.scores[task][row]
        return None


def read_entry(path: Path) -> Entry:
    """Read an entry folder, or the ``entry.json`` in it. Raises UserError."""
    folder = path.parent if path.name == ENTRY else path
    if not (folder / ENTRY).is_file():
        raise UserError(
            f"{path} is no entry of a ledger: it has no {ENTRY}; make one from a run with: "
            "python -m bench submit RUN"
        )
    try:
        return Entry(folder, read_record(EntryRecord, folder / ENTRY))
    except (OSError, ValueError) as error:
        what = remedy(error, "submit its run again")
        raise UserError(f"{folder / ENTRY} cannot be read ({error}); {what}") from error


def read_ledger(folder: Path) -> list[Entry]:
    """Read all entries below a folder, in the order of their paths. Raises UserError."""
    entries = [read_entry(path) for path in sorted(folder.rglob(ENTRY))]
    if not entries:
        raise UserError(
            f"{folder} is no ledger: no {ENTRY} lies below it; add a run with: "
            f"python -m bench submit RUN --ledger {folder}"
        )
    first: dict[str, Entry] = {}
    for entry in entries:
        earlier = first.setdefault(entry.record.fingerprint, entry)
        if earlier is not entry:
            raise UserError(
                f"{entry.path} and {earlier.path} are entries of the same run; delete one of them"
            )
    return entries


def is_ledger(folder: Path) -> bool:
    """Whether entries lie below a folder."""
    return folder.is_dir() and next(folder.rglob(ENTRY), None) is not None


def read_arrays(path: Path) -> Arrays:
    """Read an ``.npz`` file, in fp64. Raises UserError."""
    try:
        # Opened here, as numpy leaves the file of a damaged archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name].astype(np.float64) for name in stored.files}
    except (OSError, ValueError, TypeError, BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); submit the run again") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.floating]]) -> None:
    """Write an ``.npz`` file, compressed; equal arrays give equal bytes."""
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def sha256(path: Path) -> str:
    """Return the checksum of a file. Raises UserError."""
    try:
        return checksum.sha256(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); submit the run again"
        ) from error


def digests(scores: Mapping[str, NDArray[np.floating]]) -> list[str]:
    """Return a hash per item of its scores, over all tasks in the order of their names."""
    table = np.concatenate([scores[name] for name in sorted(scores)]).astype("<f4")
    columns = np.ascontiguousarray(table.T)
    return [hashlib.blake2b(column.tobytes(), digest_size=8).hexdigest() for column in columns]


def summarised(scores: NDArray[np.floating]) -> list[tuple[float | None, ...]]:
    """Return the mean of each cell over items with its interval; None where undefined."""
    span = intervals(scores.astype(np.float64))
    table = np.stack([span.mean, span.low, span.high], axis=1)
    return [tuple(round(x, 9) if np.isfinite(x) else None for x in row) for row in table.tolist()]


def disagreements(entry: Entry) -> tuple[list[str], list[str]]:
    """Check an entry against itself, without generating anything.

    Returns sentences about what does not fit, and the ids of items whose scores were changed.
    """
    record = entry.record
    said = [
        f"{name} is not the file that was submitted (its checksum differs)"
        for name in (SCORES, PROBES)
        if record.sha256.get(name) != sha256(entry.path / name)
    ]
    if record.sha256.get(ENTRY) != record.digest:
        said.append(f"{ENTRY} is not the file that was submitted (its checksum differs)")
    said += changed_names(record)
    found = digests({name: entry.scores[name] for name in record.tasks})
    changed = [
        item.id for item, digest in zip(record.items, found, strict=True) if item.scores != digest
    ]
    said += [f"item {name}: its scores are not those that were submitted" for name in changed]
    for name, task in record.tasks.items():
        said += _changed_means(name, task, entry.scores[name])
    return said, changed


def _changed_means(name: str, task: TaskRecord, scores: NDArray[np.float64]) -> list[str]:
    said = []
    for cell, (mean, low, high) in zip(task.cells, summarised(scores), strict=True):
        for word, stored, value in (
            ("mean", cell.mean, mean),
            ("lower end", cell.low, low),
            ("upper end", cell.high, high),
        ):
            if not _close(stored, value):
                said.append(
                    f"{name}, {cell.words}: {ENTRY} has the {word} {stored}, {SCORES} gives {value}"
                )
    return said


def _close(a: float | None, b: float | None) -> bool:
    """Equal up to the rounding of other versions of numpy."""
    if a is None or b is None:
        return a is b
    return abs(a - b) <= 1e-7 * max(1.0, abs(a))
