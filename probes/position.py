"""Where a token lies, as features: the baseline that knows nothing of the image."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

DEGREE = 4


@cache
def position_columns(side: int) -> Float[Tensor, "t q"]:
    """Products of Legendre polynomials in row and column up to total degree 4, at the tokens' centres.

    They span all low-order surfaces over the image and are nearly orthogonal on the grid.
    """
    at = (torch.arange(side, dtype=torch.float64) + 0.5) / side * 2 - 1
    basis = [torch.ones_like(at), at]
    for degree in range(1, DEGREE):
        basis.append(
            ((2 * degree + 1) * at * basis[degree] - degree * basis[degree - 1]) / (degree + 1)
        )
    columns = [
        (basis[row][:, None] * basis[column][None, :]).flatten()
        for row in range(DEGREE + 1)
        for column in range(DEGREE + 1 - row)
        if row + column
    ]
    return torch.stack(columns, dim=1)
