"""The matrix of edited x measured attributes: arms, gains over their controls, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from tabulate import tabulate

from bench.interventions.arms import EDIT, RANDOM
from bench.interventions.equal_change import MATCHED, Matched
from bench.interventions.records import CHANGED, AttributeRecord, AttributeTable, Interval
from probes.bootstrap import LEVEL, Array, Difference, paired_difference
from probes.multiple_testing import RATE, q_values
from probes.proportions import interval_of_difference, interval_of_share

METHODS = ("means", "weights", "pattern")


@dataclass(frozen=True, slots=True)
class AttributeArm:
    """One way to edit an attribute."""

    task: str
    method: str
    control: str
    """``edit`` for the edit itself."""


Trials = Mapping[AttributeArm, Matched]


def arms_of(tasks: Sequence[str]) -> list[AttributeArm]:
    """Every attribute by every method, with its control."""
    return [AttributeArm(*arm) for arm in product(tasks, METHODS, (EDIT, RANDOM))]


def matrix(trials: Trials, tasks: Sequence[str], wanted: float) -> tuple[AttributeRecord, ...]:
    """Compare every edit with its random directions at a change of the image of ``wanted``.

    The outcomes of ``trials`` are those of :func:`bench.interventions.attributes.outcomes_of`. The
    rate of false discoveries is over all cells of all methods.
    """
    measured = [*tasks, CHANGED]
    cells = [(*pair, index) for pair in product(tasks, METHODS) for index in range(len(measured))]
    edits, randoms = (
        np.stack(
            [
                trials[AttributeArm(task, method, control)].outcome[:, index].astype(np.float64)
                for task, method, index in cells
            ]
        )
        for control in (EDIT, RANDOM)
    )
    gains = paired_difference(edits, randoms)
    q = q_values(gains.p)
    found = (gains.mean > 0) & (q <= RATE)
    hits = {
        cell[:2]
        for cell, hit in zip(cells, found, strict=True)
        if hit and measured[cell[2]] == cell[0]
    }
    entries = []
    for row, (task, method, index) in enumerate(cells):
        edit, random = (trials[AttributeArm(task, method, x)] for x in (EDIT, RANDOM))
        entries.append(
            AttributeRecord(
                edited=task,
                measured=measured[index],
                method=method,
                share=_share(edits[row]),
                random=_share(randoms[row]),
                gain=(
                    float(gains.mean[row]),
                    *_ends_of_gain(gains, row, edits[row] - randoms[row]),
                ),
                strength=float(np.median(edit.strength)),
                p=float(gains.p[row]),
                q=float(q[row]),
                reached=float(edit.reached(wanted).mean()),
                random_reached=float(random.reached(wanted).mean()),
                hit=(task, method) in hits,
            )
        )
    return tuple(entries)


def _share(outcomes: Array) -> Interval:
    """The share of images with the outcome, with its exact interval."""
    return (float(outcomes.mean()), *interval_of_share(outcomes == 1, LEVEL))


def _ends_of_gain(gains: Difference, row: int, effects: Array) -> tuple[float, float]:
    """The interval of a gain; where all images have the same one, resamples have no spread."""
    if np.ptp(effects) > 0:
        return float(gains.low[row]), float(gains.high[row])
    low, high = interval_of_difference(effects, LEVEL)
    if gains.p[row] > 1 - LEVEL:
        return low, high
    # As of other effects, a gain that the test finds excludes zero.
    least = float(np.finfo(np.float64).tiny)
    return (max(low, least), high) if gains.mean[row] > 0 else (low, min(high, -least))


def text_of(table: AttributeTable) -> str:
    """One matrix per direction: edited attributes in rows, measured ones in columns."""
    edited_ones = list(dict.fromkeys(entry.edited for entry in table.entries))
    measured = list(dict.fromkeys(entry.measured for entry in table.entries))
    parts = [
        f"edits of {', '.join(table.layers)} at steps {', '.join(map(str, table.steps))}, "
        f"{table.items} test items; each image is compared where it has changed by "
        f"{table.change:g} (mean absolute difference of pixels, 0 to 1)"
    ]
    for method in METHODS:
        rows = []
        for edited in edited_ones:
            cells = [x for x in table.entries if (x.method, x.edited) == (method, edited)]
            first = cells[0]
            rows.append(
                [
                    *(edited, f"{first.strength:.3g}", _reach(first)),
                    "yes" if first.hit else "no",
                    *map(_cell, cells),
                ]
            )
        headers = ["edited", "strength", "reached", "target", *measured]
        parts.append(f"\n{method}\n{tabulate(rows, headers=headers, disable_numparse=True)}")
    defined = sum(np.isfinite(entry.q) for entry in table.entries)
    parts.append(
        "edited attribute: share of images with the target class; others: share whose class "
        f"changed; {CHANGED}: share whose edited attribute has another class than before, be it "
        "the target or not. In brackets the gain over a random direction at the same change, "
        f"paired, 95 %, and q (Benjamini-Hochberg over {defined} comparisons)\n"
        "strength: median over images; 1 is the difference of class means, and of weights and "
        "pattern the change after which the probe predicts the target class; reached: share of "
        f"images within a factor of {MATCHED:g} of the stated change, by the edit and by random "
        "directions; target: whether the edited attribute gains its target class, with q of at "
        f"most {RATE:g}"
    )
    return "\n".join(parts)


def _reach(entry: AttributeRecord) -> str:
    return f"{entry.reached:.0%}, {entry.random_reached:.0%}"


def _cell(entry: AttributeRecord) -> str:
    mean, low, high = entry.gain
    return f"{entry.share[0]:.2f} ({mean:+.2f} [{low:+.2f}, {high:+.2f}], q {entry.q:.3f})"
