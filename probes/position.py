"""Position features of tokens: a baseline without information on the image."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.grid import Grid

DEGREE = 4


@cache
def position_columns(grid: Grid) -> Float[Tensor, "t q"]:
    """Products of Legendre polynomials in row and column at the tokens' centres.

    Their total degree is at most 4. They span all low-order surfaces over the image and are nearly
    orthogonal on the grid.
    """
    of_rows, of_columns = _legendre(grid.rows), _legendre(grid.columns)
    columns = [
        (of_rows[row][:, None] * of_columns[column][None, :]).flatten()
        for row in range(DEGREE + 1)
        for column in range(DEGREE + 1 - row)
        if row + column
    ]
    return torch.stack(columns, dim=1)


def _legendre(count: int) -> list[Float[Tensor, " count"]]:
    """The polynomials of degree 0 to 4 at the centres of equal parts of -1..1."""
    x = (torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 - 1
    basis = [torch.ones_like(x), x]
    for degree in range(1, DEGREE):
        basis.append(
            ((2 * degree + 1) * x * basis[degree] - degree * basis[degree - 1]) / (degree + 1)
        )
    return basis
