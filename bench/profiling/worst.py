"""The largest of several errors, in which a NaN counts as the worst."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan, nan

from torch import Tensor


def worst(errors: Iterable[float]) -> float:
    """The largest error; nan, which is within no limit, if any is nan.

    Python's ``max`` loses a nan that is not the first.
    """
    values = list(errors)
    return nan if any(map(isnan, values)) else max(values)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected|: 0 for equal tensors, nan where either has a nan."""
    distance = float((actual - expected).norm())
    return distance and float(distance / expected.norm())
