"""One figure before and after, and whether the change is a regression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from bench.config import names, nearest
from bench.errors import UserError
from probes.multiple_testing import RATE, q_values

LATENCY, MEMORY = "latency", "memory"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much worse a figure may get, in its own unit or as a share of what it was."""

    size: float
    is_share: bool

    def of(self, base: float) -> float:
        """In the figure's own unit, where it was ``base``."""
        return self.size * abs(base) if self.is_share else self.size


def tolerances(text: str, known: Sequence[str]) -> dict[str, Tolerance]:
    """Tolerances by name. Raises UserError for a name that is not ``known`` and for what is no size."""
    found: dict[str, Tolerance] = {}
    for entry in names(text):
        name, _, typed = (part.strip() for part in entry.partition(":"))
        if name not in known:
            raise UserError(f"--fail-on knows no {name!r}{nearest(name, known)}")
        try:
            size = float(typed.removesuffix("%"))
        except ValueError:
            size = -1.0
        if not isfinite(size) or size < 0:
            raise UserError(
                f"--fail-on needs a size after {name}, such as {name}:5%, not {entry!r}"
            )
        is_share = typed.endswith("%")
        if name in (LATENCY, MEMORY) and not is_share:
            raise UserError(
                f"{name} is compared as a ratio: give its tolerance as a share, such as {name}:5%"
            )
        if name in found:
            raise UserError(f"--fail-on names {name} twice")
        found[name] = Tolerance(size / 100 if is_share else size, is_share)
    if not found:
        raise UserError(
            "--fail-on is empty; name what may not get worse, such as dice:0.01,latency:5%"
        )
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of two runs or profiles."""

    name: str
    """What a tolerance calls it: a metric, ``latency`` or ``memory``."""
    where: str
    base: float
    new: float
    loss: float
    """By how much it got worse, in its own unit; negative where it got better."""
    span: str
    """The change with its 95 % interval, as it is printed."""
    p: float
    """Of no change; nan where it is not defined."""
    q: float = np.nan
    """The false discovery rate at which the change is called, over all changes that were tested together."""
    is_single: bool = False
    """Whether there is one reading each, and nothing to test: it is held against the tolerance alone."""
    sure_loss: float | None = None
    """The least loss inside the interval, of clock readings. Between two runs the machine drifts, which no interval
    taken inside of them sees: so all of it must lie beyond the tolerance. None where the mean loss counts."""

    def moved(self, tolerance: Tolerance | None) -> bool:
        """Whether there is a change: at a false discovery rate of 5 %, or a single reading's beyond the tolerance.

        Of single readings without a tolerance nobody knows what is noise, and none is said to have moved.
        """
        if self.is_single:
            return tolerance is not None and abs(self.loss) > tolerance.of(self.base)
        return self.loss != 0 and self.q <= RATE

    def is_regression(self, tolerance: Tolerance | None) -> bool:
        """A change for the worse, larger than the tolerance."""
        loss = self.loss if self.sure_loss is None else self.sure_loss
        return tolerance is not None and self.moved(tolerance) and loss > tolerance.of(self.base)


def tested_together(changes: Iterable[Change]) -> list[Change]:
    """The changes with their false discovery rates over all of them."""
    found = list(changes)
    q = q_values(np.array([change.p for change in found], dtype=np.float64))
    return [replace(change, q=float(value)) for change, value in zip(found, q, strict=True)]


def row(change: Change, tolerance: Tolerance | None) -> dict[str, str]:
    """A change as a table row."""
    if change.is_regression(tolerance):
        verdict = "regression"
    elif change.is_single and not change.moved(tolerance):
        verdict = "tolerated" if tolerance else "not judged"
    elif change.loss < 0:
        verdict = "better"
    else:
        verdict = "worse, tolerated" if tolerance else "worse"
    return {
        "figure": change.name,
        "where": change.where,
        "base": f"{change.base:.4g}",
        "new": f"{change.new:.4g}",
        "change": change.span,
        "q": "-" if np.isnan(change.q) else f"{change.q:.4f}",
        "verdict": verdict,
    }


def largest(
    changes: Sequence[Change], tolerated: dict[str, Tolerance], at_most: int
) -> list[Change]:
    """What moved, and every single reading, regressions first, then by size; figures take turns in their own units."""
    shown = [
        change for change in changes if change.is_single or change.moved(tolerated.get(change.name))
    ]

    def order(change: Change) -> tuple[bool, float]:
        return not change.is_regression(tolerated.get(change.name)), -abs(change.loss)

    return sorted(shown, key=order)[:at_most]
