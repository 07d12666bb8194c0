"""Everything that is compared across models, computed once for the tables, files and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.across.agreement import Agreement, agreements
from bench.across.contrasts import (
    LEVELS,
    ContrastAtLevel,
    Point,
    differences,
    levels_in_range,
    points,
)
from bench.across.models import models_of
from bench.across.order import Onset, OnsetDifference, attribute_order, group_order, onsets
from bench.across.readings import Readings, chosen_items, read_items
from bench.across.shared import Shared, shared
from bench.across.transfer import AtLevel, Curves, averaged, transfers
from bench.runs.results import Results

READINGS = "readings"
"""Folder, below that of the tables, of what models generated again."""


@dataclass(frozen=True, slots=True, eq=False)
class Across:
    """The comparison of several models."""

    shared: Shared
    levels: tuple[float, ...]
    points: list[Point]
    differences: list[ContrastAtLevel]
    onsets: list[Onset]
    attribute_order: list[OnsetDifference]
    group_order: list[OnsetDifference]
    readings: list[Readings]
    """Empty where nothing was generated."""
    agreements: list[Agreement]
    curves: list[Curves]
    at_levels: list[AtLevel]


def across(
    runs: Sequence[Results],
    folder: Path,
    tasks: Sequence[str] | None = None,
    log_snr: Sequence[float] | None = None,
    items: int = 0,
    threads: int | None = None,
) -> Across:
    """Compare the models of runs; with ``items``, generate so many test items of each again.

    Raises UserError where runs cannot be compared.
    """
    common = shared(models_of(runs), tasks)
    levels = levels_in_range(common, log_snr)
    if (left := [f"{level:g}" for level in LEVELS if level not in levels]) and log_snr is None:
        note = f"left out, as not every run has steps on both sides: log-SNR {', '.join(left)}"
        common = replace(common, notes=(*common.notes, note))
    chosen = chosen_items(common, items) if items else ()
    found = onsets(common)
    compared = (
        common,
        levels,
        list(points(common, levels)),
        differences(common, levels),
        found,
        attribute_order(found),
        group_order(found),
    )
    # The last, since it takes minutes, and what is above may end in a sentence.
    readings = [
        read_items(common, model, chosen, folder / READINGS, threads)
        for model in (common.models if items else ())
    ]
    curves = transfers(readings)
    return Across(*compared, readings, agreements(readings), curves, averaged(curves, levels))
