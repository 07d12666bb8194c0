"""Scores of images with small, medium and large salient objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.bootstrap import Array, Interval, intervals

TERCILES = ("small", "medium", "large")


@dataclass(frozen=True, slots=True)
class Tercile:
    """The scores of the third of the images whose salient objects are of similar size."""

    name: str
    images: int
    low_area: float
    """Least share of an image that its object covers."""
    high_area: float
    """Largest share of an image that its object covers."""
    scores: Interval
    """One mean and interval per row of scores."""


def terciles(area: Array) -> NDArray[np.int_]:
    """Tercile of each image by its object's area: 0 (least), 1 or 2; ties keep their order."""
    numbers = np.empty(len(area), dtype=np.int_)
    numbers[np.argsort(area, kind="stable")] = (
        np.arange(len(area)) * len(TERCILES) // max(len(area), 1)
    )
    return numbers


def by_area(scores: Array, area: Array) -> tuple[Tercile, ...]:
    """Summarise scores (cells x images) in each non-empty tercile of the object's area."""
    numbers = terciles(area)
    summaries = []
    for number, name in enumerate(TERCILES):
        members = numbers == number
        if members.any():
            areas = area[members]
            summaries.append(
                Tercile(
                    name,
                    int(members.sum()),
                    float(areas.min()),
                    float(areas.max()),
                    intervals(scores[:, members]),
                )
            )
    return tuple(summaries)
