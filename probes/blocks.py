"""Block statistics of a target map, from which token-level predictions are scored per pixel.

A probe predicts one value per token, which stands for all k pixels of a block. Every score
depends on the pixels of a block only through a few means, so the pixels are visited once per image,
not once per probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.grid import Grid


def block_means(maps: Float[Tensor, "*b h w"], grid: Grid) -> Float[Tensor, "*b t"]:
    """Means over the grid's blocks that tile each map, row by row, in float64.

    Raises ValueError when the blocks do not tile the map.
    """
    means: Tensor = tiles_of(maps.double(), grid).mean((-1, -3)).flatten(-2)
    return means


def tiles_of(
    maps: Float[Tensor, "*b h w"], grid: Grid
) -> Float[Tensor, "*b rows height columns width"]:
    """The blocks that tile each map. Raises ValueError when they do not."""
    h, w = maps.shape[-2:]
    if h % grid.rows or w % grid.columns:
        raise ValueError(f"a {h} x {w} map does not tile into {grid.rows} x {grid.columns} blocks")
    columns = maps.unflatten(-1, (grid.columns, w // grid.columns))
    tiles: Tensor = columns.unflatten(-3, (grid.rows, h // grid.rows))
    return tiles


def average_ranks(values: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
    """Ranks from 1; ties share the mean of their ranks."""
    values = values.contiguous()
    ordered, order = values.sort(-1)
    # The answer would wait for another device, where the second way is quick.
    if values.device.type == "cpu" and not bool((ordered[..., 1:] == ordered[..., :-1]).any()):
        ranks = torch.arange(1, values.shape[-1] + 1, dtype=torch.float64)
        return torch.empty_like(ordered, dtype=torch.float64).scatter_(
            -1, order, ranks.expand(order.shape)
        )
    smaller = torch.searchsorted(ordered, values)
    not_larger = torch.searchsorted(ordered, values, right=True)
    return (smaller + not_larger + 1).double() / 2


@dataclass(frozen=True)
class Ranks:
    """Average ranks of a target's pixels within their image, sorted once for all grids."""

    target: Float[Tensor, "n k h w"]

    @cached_property
    def values(self) -> Float[Tensor, "n k p"]:
        """The ranks of all pixels."""
        return average_ranks(self.target.flatten(-2))

    @cached_property
    def variance(self) -> Float[Tensor, "n k"]:
        """Their variance over pixels."""
        return self.values.var(-1, correction=0)


@dataclass(frozen=True)
class Blocks:
    """Statistics of the target of n images with k channels, on a grid of blocks."""

    target: Float[Tensor, "n k h w"]
    grid: Grid
    shared: Ranks | None = None
    """Of the target, where several grids share them."""

    @property
    def pixels(self) -> int:
        """Pixels per block."""
        return self.target.shape[-1] * self.target.shape[-2] // self.grid.tokens

    @cached_property
    def mean(self) -> Float[Tensor, "n k t"]:
        """Block means of the target."""
        return block_means(self.target, self.grid)

    @cached_property
    def variance(self) -> Float[Tensor, "n k t"]:
        """Variance of the target inside each block."""
        height, width = self.target.shape[-2:]
        mean = self.mean.unflatten(-1, self.grid.shape)
        upsampled = mean.repeat_interleave(height // self.grid.rows, -2)
        upsampled = upsampled.repeat_interleave(width // self.grid.columns, -1)
        return block_means((self.target.double() - upsampled).square(), self.grid)

    @property
    def total_variance(self) -> Float[Tensor, "n k"]:
        """Variance over the pixels of each image."""
        return self.within + self.mean.var(-1, correction=0)

    @cached_property
    def rank(self) -> Float[Tensor, "n k t"]:
        """Block means of the target's average ranks within its image."""
        return block_means(self._ranks.values.view_as(self.target), self.grid)

    @cached_property
    def rank_variance(self) -> Float[Tensor, "n k"]:
        """Variance over pixels of the target's ranks."""
        return self._ranks.variance

    @cached_property
    def _ranks(self) -> Ranks:
        return self.shared or Ranks(self.target)

    @property
    def within(self) -> Float[Tensor, "n k"]:
        """Mean variance inside blocks, which no prediction at this resolution can explain."""
        return self.variance.mean(-1)
