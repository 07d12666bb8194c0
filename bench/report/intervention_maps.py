"""Heat maps of interventions: where probes read and edits act, and attributes edited x measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import UserError
from bench.figures.charts import heat
from bench.interventions.equal_change import MATCHED
from bench.interventions.maps import Correlation
from bench.interventions.records import (
    ATTRIBUTES,
    MAPS,
    AttributeRecord,
    AttributeTable,
    Interval,
    MapRecord,
    task_folder,
)
from bench.options.validation import OtherVersion, Record, read_record, remedy
from probes.bootstrap import Score

Stored = TypeVar("Stored", bound=Record)

_METHODS = {
    "means": "along the difference of class means",
    "weights": "along the weights of the ridge probe",
    "pattern": "along the covariance pattern of the ridge probe",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A cell of a heat map."""

    text: str
    notes: tuple[str, ...]
    background: str
    colour: str
    is_own: bool = False
    """Whether the measured attribute is the edited one."""


def read_maps(run_path: Path, name: str) -> dict[str, Any] | None:
    """The two maps of an experiment, for the template; None if there are none.

    Raises UserError when the file is damaged.
    """
    record = _read(MapRecord, task_folder(run_path, name) / MAPS, "--map")
    if record is None:
        return None
    cells = len(record.blocks) * len(record.windows)
    return {
        "method": record.method,
        "strength": f"{record.strength:g}",
        "maps": [
            {
                "title": title,
                "columns": [_span(window) for window in record.windows],
                "rows": _rows(record.blocks, intervals),
            }
            for title, intervals in (
                ("Where and when probes read", record.reading),
                ("Where and when edits act", record.acting),
            )
        ],
        "correlation": _correlation(record, cells),
        "line": f"{2 * cells} intervals of 95 % {_UNCORRECTED}; no single cell is claimed",
    }


def read_attributes(run_path: Path) -> dict[str, Any] | None:
    """The matrices of edited x measured attributes, for the template; None if there are none.

    Those of an earlier version had another meaning, and count as none. Raises UserError when the
    file is damaged.
    """
    path = task_folder(run_path, ATTRIBUTES) / f"{ATTRIBUTES}.json"
    table = _read(AttributeTable, path, "--attributes")
    if table is None:
        return None
    methods = list(dict.fromkeys(entry.method for entry in table.entries))
    return {
        "change": f"{table.change:g}",
        "count": table.items,
        "layers": ", ".join(table.layers),
        "steps": ", ".join(map(str, table.steps)),
        "columns": list(dict.fromkeys(entry.measured for entry in table.entries)),
        "methods": [
            {
                "name": method,
                "label": _METHODS.get(method, method),
                "maps": [
                    {"title": title, "rows": _attribute_rows(table, method, control)}
                    for title, control in (("edit", False), ("random direction", True))
                ],
            }
            for method in methods
        ],
        "line": f"{len(table.entries)} gains with intervals of 95 % {_UNCORRECTED}; q is corrected "
        "over all cells (Benjamini and Hochberg). Reach: the share of images whose change is "
        f"within a factor of {MATCHED:g} of the stated one, if not all are; the others are read "
        "where their change is nearest to it",
    }


_UNCORRECTED = (
    "are shown and not corrected for their number: about one in twenty excludes zero where "
    "there is no effect"
)


def _read(kind: type[Stored], path: Path, option: str) -> Stored | None:
    if not path.is_file():
        return None
    try:
        return read_record(kind, path)
    except (OSError, ValueError) as error:
        if isinstance(error, OtherVersion) and not error.is_later:
            return None
        state = "cannot be read" if isinstance(error, OtherVersion) else "is damaged"
        command = f"python -m bench intervene {path.parent.parent.parent} {option}"
        what = remedy(error, f"remove it, or repeat: {command}")
        raise UserError(f"{path} {state} ({error}); {what}") from error


def _rows(
    names: Sequence[str], intervals: Sequence[Sequence[Interval]]
) -> list[tuple[str, list[Tile]]]:
    """Gains of a map with their intervals, on the map's own scale."""
    least, most = _ends(mean for row in intervals for mean, *_ in row)
    return [
        (
            name,
            [
                Tile(_signed(mean), (_between(low, high),), *heat(mean, least, most))
                for mean, low, high in row
            ],
        )
        for name, row in zip(names, intervals, strict=True)
    ]


def _attribute_rows(
    table: AttributeTable, method: str, control: bool
) -> list[tuple[str, list[Tile]]]:
    """Shares of images; those of edits have their gains over random directions."""
    rows: dict[str, list[Tile]] = {}
    for entry in table.entries:
        if entry.method == method:
            rows.setdefault(entry.edited, []).append(_share(entry, control))
    return list(rows.items())


def _share(entry: AttributeRecord, control: bool) -> Tile:
    mean, low, high = entry.random if control else entry.share
    notes: tuple[str, ...] = (_between(low, high, sign=""),)
    if not control:
        gain, low, high = entry.gain
        notes = (f"gain {_signed(gain)}", _between(low, high), f"q {_brief(entry.q)}")
    reached = entry.random_reached if control else entry.reached
    if reached < 1:
        notes = (*notes, f"{reached:.0%} reach")
    is_own = entry.edited == entry.measured
    return Tile(f"{mean:.2f}", notes, *heat(mean, 0, 1), is_own=is_own)


def _brief(value: float) -> str:
    return f"{value:.2g}" if isfinite(value) else "–"


def _correlation(record: MapRecord, cells: int) -> str:
    mean, low, high = record.correlation
    text = f"Spearman's rank correlation of the two maps over {cells} cells: "
    if not isfinite(mean):
        return f"{text}undefined, as one of them is constant or has too few cells"
    value = Correlation(Score(*record.correlation), record.correlation_bias)
    seen = "; no agreement was seen, as the interval includes zero" if low <= 0 <= high else ""
    return f"{text}{value}; {record.items} test images{seen}"


def _ends(values: Iterable[float]) -> tuple[float, float]:
    finite = [value for value in values if isfinite(value)] or [0.0]
    return min(finite), max(finite)


def _signed(value: float) -> str:
    return f"{value:+.2f}" if isfinite(value) else "–"


def _between(low: float, high: float, sign: str = "+") -> str:
    return f"[{low:{sign}.2f}, {high:{sign}.2f}]" if isfinite(low) and isfinite(high) else ""


def _span(window: Sequence[int]) -> str:
    return f"step {window[0]}" if len(window) == 1 else f"steps {window[0]}-{window[-1]}"
