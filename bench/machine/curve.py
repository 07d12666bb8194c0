"""A positive quantity that was measured at a few sizes, and is read at others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (size, value), joined by straight lines in logarithms.

    Beyond the ends the first and the last value hold, or with ``extrapolated`` the lines go on.
    """

    points: tuple[tuple[float, float], ...]
    """At least one, in the order of their sizes, all positive."""
    extrapolated: bool = False

    @staticmethod
    def of(points: Sequence[tuple[float, float]], extrapolated: bool = False) -> Curve:
        """The curve through points in any order; of points of one size, the last one counts."""
        return Curve(tuple(sorted(dict(points).items())), extrapolated)

    def __call__(self, size: float) -> float:
        """The value at a size."""
        sizes, values = zip(*self.points, strict=True)
        if len(sizes) == 1:
            return float(values[0])
        if not self.extrapolated:
            size = min(max(size, sizes[0]), sizes[-1])
        right = min(max(bisect_right(sizes, size), 1), len(sizes) - 1)
        left = right - 1
        slope = log(values[right] / values[left]) / log(sizes[right] / sizes[left])
        return float(values[left] * exp(slope * log(size / sizes[left])))
