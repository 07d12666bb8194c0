"""The strength at which an edit changes an image by a stated amount, for each image by itself.

At the same strength methods change an image by amounts that differ by orders of magnitude, and
images differ too. So every edit is compared at the same change. The search is on a
scale of octaves: it starts at strength 1, goes up or down until the stated change lies between two
strengths, and then interpolates the logarithm of the change between them. The change need not rise
with the strength, so the trial nearest to the stated change counts, be it close to it or not. A
change that passes the stated one and falls back within a step is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.bootstrap import Array

ROUNDS = 7
"""Trials of an image at most."""
CLOSE = 1.1
"""Factor of the stated change within which the search of an image ends."""
MATCHED = 1.25
"""Factor within which an image counts as changed as much as stated."""
_FARTHEST = 6.0
"""Octaves of a step at most, while the stated change is on one side of all trials."""
_LEAST_STEP = 0.25

Tried = tuple[Array, NDArray[np.int64]]
"""The changes of n images, and their outcomes, n x outcomes."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The trial of each of n images that is nearest to the stated change."""

    strength: Array
    change: Array
    outcome: NDArray[np.int64]
    """n x outcomes."""

    def reached(self, wanted: float) -> NDArray[np.bool_]:
        """Which images changed as much as stated, up to the factor ``MATCHED``."""
        return _within(self.change, wanted, MATCHED)

    @staticmethod
    def joined(parts: Sequence[Matched]) -> Matched:
        """Concatenate images."""
        return Matched(
            np.concatenate([part.strength for part in parts]),
            np.concatenate([part.change for part in parts]),
            np.concatenate([part.outcome for part in parts]),
        )


@dataclass(slots=True)
class _Search:
    """The search of one image; positions are log2 of strengths, levels log2 of change / wanted."""

    weak: tuple[float, float] | None = None
    """Position and level of the latest trial below the stated change."""
    strong: tuple[float, float] | None = None
    """Those of the latest trial above it."""
    latest: tuple[float, float] | None = None
    """Those of the latest trial of all."""

    def add(self, position: float, level: float) -> None:
        """Take note of a trial."""
        self.latest = position, level
        if level < 0:
            self.weak = self.latest
        else:
            self.strong = self.latest

    def next(self) -> float:
        """The position of the next trial."""
        if self.weak and self.strong:
            (low, below), (high, above) = self.weak, self.strong
            share = below / (below - above)
            # Near an end the next trial would tell little, and a jump of the change would not be
            # enclosed.
            return low + min(max(share, 0.1), 0.9) * (high - low)
        if not self.latest:
            return 0.0
        position, level = self.latest
        # The change often rises by less than the strength does.
        step = min(max(1.5 * abs(level), _LEAST_STEP), _FARTHEST)
        return position + (step if level < 0 else -step)


def at_change(
    evaluate: Callable[[Sequence[int], Array], Tried], count: int, wanted: float
) -> Matched:
    """Search the strength of each of ``count`` images at which its change is ``wanted``.

    ``evaluate`` takes the numbers of some images and their strengths, and returns what was tried.
    """
    searches = [_Search() for _ in range(count)]
    strength, change = np.full(count, np.nan), np.full(count, np.nan)
    outcome: NDArray[np.int64] | None = None
    for _ in range(ROUNDS):
        rows = np.flatnonzero(~_within(change, wanted, CLOSE)).tolist()
        if not rows:
            break
        # Rounded, so that the last bits of a change do not become new strengths.
        positions = np.round([searches[row].next() for row in rows], 3)
        changes, outcomes = evaluate(rows, 2.0**positions)
        if outcome is None:
            outcome = np.zeros((count, outcomes.shape[1]), dtype=np.int64)
        for row, position, found, own in zip(rows, positions, changes, outcomes, strict=True):
            level = _level(found, wanted)
            searches[row].add(float(position), level)
            if np.isnan(change[row]) or abs(level) < abs(_level(change[row], wanted)):
                strength[row], change[row], outcome[row] = 2.0**position, found, own
    assert outcome is not None
    return Matched(strength, change, outcome)


def _level(change: float, wanted: float) -> float:
    """Octaves above the stated change; very far below for none, very far above if undefined."""
    if not np.isfinite(change):
        return 20.0
    return float(np.clip(np.log2(max(change, np.finfo(np.float64).tiny) / wanted), -20.0, 20.0))


def _within(change: Array, wanted: float, factor: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (change >= wanted / factor) & (change <= wanted * factor)
    return inside
