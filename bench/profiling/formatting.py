"""Cells and tables of a printed profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from bench.profiling.parity import NOISE
from bench.profiling.records import ParityFacts
from bench.profiling.timing_intervals import Estimate
from bench.profiling.worst import worst

UNKNOWN = "-"
ERROR = "error: noise / tap / own"


def print_table(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> None:
    """Print a table under its title, and notes below it."""
    print(f"\n{title}")
    print(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    for note in notes:
        print(f"  {note}")


def with_interval(estimate: Estimate) -> str:
    """A figure with its interval."""
    if not np.isfinite(estimate.low):
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def milliseconds(seconds: float) -> str:
    """Three significant digits."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def error_of(parity: ParityFacts) -> str:
    """Errors of noise and worst tap on given latents, and of the end of the own trajectory."""
    worst_tap = worst(worst(errors) for name, errors in parity.given.items() if name != NOISE)
    return f"{worst(parity.given[NOISE]):.0e} / {worst_tap:.0e} / {parity.own[-1]:.0e}"


def untapped_error_of(parity: ParityFacts, digits: int) -> str:
    """Error of the noise prediction against the engine without taps."""
    return UNKNOWN if parity.untapped is None else f"{parity.untapped:.{digits}e}"
