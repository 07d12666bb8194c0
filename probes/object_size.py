"""Summaries that tell easy images from hard ones, from per-image scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.bootstrap import Array, Interval, intervals

TERCILES = ("small", "medium", "large")


@dataclass(frozen=True, slots=True)
class Stratum:
    """The images whose salient object is of about one size, and their scores."""

    name: str
    images: int
    low_area: float
    high_area: float
    """Share of the image that the object covers, from the least to the most."""
    scores: Interval
    """Of each row of scores."""


def terciles(area: Array) -> NDArray[np.int_]:
    """0, 1 or 2 per image: the third with the least area, the middle one, the largest; ties keep their order."""
    numbers = np.empty(len(area), dtype=np.int_)
    numbers[np.argsort(area, kind="stable")] = (
        np.arange(len(area)) * len(TERCILES) // max(len(area), 1)
    )
    return numbers


def by_area(scores: Array, area: Array) -> tuple[Stratum, ...]:
    """Scores (cells x images) with intervals in each tercile of the foreground's area; an empty one is left out."""
    number = terciles(area)
    strata = []
    for at, name in enumerate(TERCILES):
        mine = number == at
        if mine.any():
            here = area[mine]
            strata.append(
                Stratum(
                    name,
                    int(mine.sum()),
                    float(here.min()),
                    float(here.max()),
                    intervals(scores[:, mine]),
                )
            )
    return tuple(strata)
