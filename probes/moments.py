"""Centred second moments of a set of rows: all that a linear probe needs of them.

Moments of two sets of rows merge into the moments of their union (Chan, Golub and LeVeque 1983):

    n = n1 + n2,   mean = mean1 + (n2 / n) d,   scatter = scatter1 + scatter2 + (n1 n2 / n) d d',

where d = mean2 - mean1.

Everything is float64: in float32 the coefficients of well-scaled data were off by 2e-3, and by half
when the features' means were ten times their spread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of n rows of d columns; leading axes stand for separate sets of n rows each."""

    n: int
    mean: Float[Tensor, "*b d"]
    scatter: Float[Tensor, "*b d d"]
    """Sum over rows of (row - mean)(row - mean)'."""

    @property
    def columns(self) -> int:
        """The number of columns, d."""
        return self.mean.shape[-1]

    def __getitem__(self, index: int) -> Moments:
        """The moments of one set of rows."""
        return Moments(self.n, self.mean[index], self.scatter[index])

    def to(self, device: torch.device) -> Moments:
        """The same moments on a device, sharing memory if they are already there."""
        return Moments(self.n, self.mean.to(device), self.scatter.to(device))


def moments_of(rows: Float[Tensor, "*b n d"]) -> Moments:
    """Compute the moments of rows in float64."""
    rows = rows.double()
    mean = rows.mean(-2)
    centred = rows - mean[..., None, :]
    return Moments(rows.shape[-2], mean, centred.mT @ centred)


def total(parts: Iterable[Moments]) -> Moments:
    """Moments of the union of several sets, added in the given order."""
    iterator = iter(parts)
    result = copied(next(iterator))
    for part in iterator:
        result = merged(result, part)
    return result


def copied(moments: Moments) -> Moments:
    """A copy that shares no memory."""
    return Moments(moments.n, moments.mean.clone(), moments.scatter.clone())


def merged(into: Moments, other: Moments) -> Moments:
    """Moments of the union, in the memory of ``into``, which must not be used afterwards.

    Moments are the largest objects of a run; adding in place keeps one copy in memory, not three.
    """
    n = into.n + other.n
    if n == 0:
        return into
    difference = other.mean - into.mean
    into.scatter.add_(other.scatter)
    into.scatter.add_(difference[..., :, None] * difference[..., None, :] * (into.n * other.n / n))
    into.mean.add_(difference * (other.n / n))
    return Moments(n, into.mean, into.scatter)


def pack(scatter: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b t"]:
    """The upper triangles of symmetric matrices, row by row."""
    side = scatter.shape[-1]
    rows, columns = torch.triu_indices(side, side, device=scatter.device)
    return scatter[..., rows, columns]


def unpack(triangle: Float[Tensor, "*b t"], d: int) -> Float[Tensor, "*b d d"]:
    """Invert :func:`pack`."""
    rows, columns = torch.triu_indices(d, d, device=triangle.device)
    full = triangle.new_zeros(*triangle.shape[:-1], d, d)
    full[..., rows, columns] = triangle
    full[..., columns, rows] = triangle
    return full
