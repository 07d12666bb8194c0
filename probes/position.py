"""Position features of tokens: a baseline without information on the image."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

DEGREE = 4


@cache
def position_columns(side: int) -> Float[Tensor, "t q"]:
    """Products of Legendre polynomials in row and column at the tokens' centres.

    Their total degree is at most 4. They span all low-order surfaces over the image and are nearly
    orthogonal on the grid.
    """
    x = (torch.arange(side, dtype=torch.float64) + 0.5) / side * 2 - 1
    basis = [torch.ones_like(x), x]
    for degree in range(1, DEGREE):
        basis.append(
            ((2 * degree + 1) * x * basis[degree] - degree * basis[degree - 1]) / (degree + 1)
        )
    columns = [
        (basis[row][:, None] * basis[column][None, :]).flatten()
        for row in range(DEGREE + 1)
        for column in range(DEGREE + 1 - row)
        if row + column
    ]
    return torch.stack(columns, dim=1)
