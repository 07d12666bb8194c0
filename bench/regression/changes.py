"""Changes of figures, tolerances, and the rule of a regression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from bench.config import nearest
from bench.errors import UserError
from bench.options.typed import parts
from probes.multiple_testing import RATE, q_values

LATENCY, MEMORY = "latency", "memory"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The allowed loss of a figure, in its own unit or as a share of its base value."""

    size: float
    is_share: bool

    def of(self, base: float) -> float:
        """The allowed loss in the figure's own unit, from the value ``base``."""
        return self.size * abs(base) if self.is_share else self.size


def tolerances(text: str, figures: Sequence[str]) -> dict[str, Tolerance]:
    """Parse ``--fail-on``: tolerances by figure. Raises UserError for an unknown name or size."""
    parsed: dict[str, Tolerance] = {}
    for entry in parts(text):
        name, _, typed = (part.strip() for part in entry.partition(":"))
        if name not in figures:
            raise UserError(f"--fail-on knows no {name!r}{nearest(name, figures)}")
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
        if name in parsed:
            raise UserError(f"--fail-on names {name} twice")
        parsed[name] = Tolerance(size / 100 if is_share else size, is_share)
    if not parsed:
        raise UserError("--fail-on is empty; name figures, such as dice:0.01,latency:5%")
    return parsed


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of two runs or profiles."""

    name: str
    """Its name in ``--fail-on``: a metric, ``latency`` or ``memory``."""
    where: str
    base: float
    new: float
    loss: float
    """How much worse it is, in its own unit; negative where it is better."""
    span: str
    """The change with its 95 % interval, formatted."""
    p: float
    """p value of no change; nan where undefined."""
    q: float = np.nan
    """Smallest false discovery rate, over all tested together, at which it is significant."""
    is_single: bool = False
    """Whether each side is one reading: it is compared with the tolerance, without a test."""
    is_lost: bool = False
    """Whether a score is undefined where it was defined before, which no test can tell."""
    sure_loss: float | None = None
    """The least loss inside the interval, for clock readings; None where the mean loss counts.
    The interval must exceed the tolerance as a whole, as it excludes drift between two runs."""

    def moved(self, tolerance: Tolerance | None) -> bool:
        """Whether it changed: at a false discovery rate of 5 %, or beyond a single's tolerance.

        The noise of single readings is unknown: without a tolerance they count as unchanged.
        """
        if self.is_lost:
            return True
        if self.is_single:
            return tolerance is not None and abs(self.loss) > tolerance.of(self.base)
        return self.loss != 0 and self.q <= RATE

    def is_regression(self, tolerance: Tolerance | None) -> bool:
        """Whether it is worse by more than the tolerance."""
        loss = self.loss if self.sure_loss is None else self.sure_loss
        return tolerance is not None and self.moved(tolerance) and loss > tolerance.of(self.base)


def tested_together(changes: Iterable[Change]) -> list[Change]:
    """The changes with their false discovery rates over all of them."""
    family = list(changes)
    q = q_values(np.array([change.p for change in family], dtype=np.float64))
    return [replace(change, q=float(value)) for change, value in zip(family, q, strict=True)]


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
    """Changed figures and all single readings: regressions first, then by size of the loss."""
    shown = [
        change for change in changes if change.is_single or change.moved(tolerated.get(change.name))
    ]

    def order(change: Change) -> tuple[bool, float]:
        return not change.is_regression(tolerated.get(change.name)), -abs(change.loss)

    return sorted(shown, key=order)[:at_most]
