"""What a change may cost before it counts as a regression, as typed: ``dice:0.01,latency:5%``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from bench.config import names, nearest
from bench.errors import MistakeError

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
    """Tolerances by name. Raises MistakeError for a name that is not ``known`` and for what is no size."""
    found: dict[str, Tolerance] = {}
    for entry in names(text):
        name, _, typed = (part.strip() for part in entry.partition(":"))
        if name not in known:
            raise MistakeError(f"--fail-on knows no {name!r}{nearest(name, known)}")
        try:
            size = float(typed.removesuffix("%"))
        except ValueError:
            size = -1.0
        if not isfinite(size) or size < 0:
            raise MistakeError(f"--fail-on needs a size after {name}, such as {name}:5%, not {entry!r}")
        is_share = typed.endswith("%")
        if name in (LATENCY, MEMORY) and not is_share:
            raise MistakeError(f"{name} is compared as a ratio: give its tolerance as a share, such as {name}:5%")
        if name in found:
            raise MistakeError(f"--fail-on names {name} twice")
        found[name] = Tolerance(size / 100 if is_share else size, is_share)
    if not found:
        raise MistakeError("--fail-on is empty; name what may not get worse, such as dice:0.01,latency:5%")
    return found
