"""Eigenbases that several fits share, as they solve with the same training rows.

The draft probes are fit to all folds but the last, as are the probes that cross-validation scores
on the last fold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Lock
from typing import NamedTuple

from torch import Tensor

from probes.eigenbasis import Eigenbasis, decompose
from probes.moments import CPU
from probes.ridge import Decompose, Folds, every_time
from probes.statistics import Site, SufficientStatistics


class Features(NamedTuple):
    """Which features a scatter is of."""

    site: Site
    step_index: int
    of_images: bool
    """Whether rows are whole images, not tokens."""
    width: int
    """Number of features: the channels, or the directions of a probe of equal width."""
    standardised: bool = False
    """Whether they are scaled to unit variance."""


Sharing = Callable[[Features], Decompose]
"""Returns what decomposes the scatters of the features."""


def no_sharing(_: Features) -> Decompose:
    """Solve every eigenproblem, and keep none."""
    return every_time


def remembering() -> Decompose:
    """Return what decomposes scatters of the same features, each set of folds once."""
    known: dict[Folds, Eigenbasis] = {}

    def decomposing(chosen: Folds, scatter: Tensor) -> Eigenbasis:
        if chosen not in known:
            known[chosen] = decompose(scatter)
        return known[chosen]

    return decomposing


class KeptEigenbases:
    """Eigenbases of one set of folds, which a first fit keeps and a second takes.

    They are kept in host memory, up to ``limit`` bytes; the others are computed again, with the
    same result. Safe to use from several threads.
    """

    def __init__(self, folds: Folds, limit: int) -> None:
        self.folds = folds
        self.limit = limit
        self.nbytes = 0
        """Memory of the eigenbases that are kept."""
        self._kept: dict[Features, Eigenbasis] = {}
        self._lock = Lock()

    def keep(self, features: Features) -> Decompose:
        """Return what decomposes scatters and keeps the eigenbasis of the folds."""

        def decomposing(chosen: Folds, scatter: Tensor) -> Eigenbasis:
            eigenbasis = decompose(scatter)
            if chosen == self.folds:
                with self._lock:
                    fits = self.nbytes + eigenbasis.nbytes <= self.limit
                    if fits and features not in self._kept:
                        self._kept[features] = eigenbasis.to(CPU)
                        self.nbytes += eigenbasis.nbytes
            return eigenbasis

        return decomposing

    def take(self, features: Features) -> Decompose:
        """Return what decomposes scatters, and takes the kept eigenbasis for those of the folds."""

        def decomposing(chosen: Folds, scatter: Tensor) -> Eigenbasis:
            if chosen == self.folds:
                with self._lock:
                    kept = self._kept.pop(features, None)
                    self.nbytes -= 0 if kept is None else kept.nbytes
                if kept is not None:
                    return kept.to(scatter.device)
            return decompose(scatter)

        return decomposing


def bytes_of_eigenbases(
    sums: SufficientStatistics, steps: int, selective: Collection[str], standardised: bool = False
) -> int:
    """Memory of one eigenbasis for every set of features of a fit to tokens or to whole images.

    ``standardised`` adds those of standardised probes.
    """
    widths = [shape.channels for shape in sums.shapes.values()]
    own = [shape.channels for (network, _), shape in sums.shapes.items() if network in selective]
    widths += [min(own) for width in own if width > min(own)]
    widths += own if standardised else []
    return sum(8 * width * (width + 1) for width in widths) * steps
