"""Ridge regression from the eigenbasis of the features' scatter, with and without further columns.

With X'X = Q L Q', the weights of features alone are, for every penalty a,

    w = (X'X + a I)^-1 X'y = Q (L + a)^-1 Q' X'y.

A few further columns Z, with a penalty b of their own, need no other eigenbasis. Eliminating w from

    (X'X + a I) w + X'Z v = X'y
    Z'X w + (Z'Z + b I) v = Z'y

leaves a system of as many unknowns as Z has columns, whose matrix is the Schur complement S:

    S v = Z'y - Z'X (X'X + a I)^-1 X'y,    S = Z'Z + b I - Z'X (X'X + a I)^-1 X'Z
    w = (X'X + a I)^-1 (X'y - X'Z v).

S - b I is positive semidefinite, so S has a Cholesky factor. The error of w and v is that of a
direct solution: both grow with the largest eigenvalue over the penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Eigenbasis:
    """The eigendecomposition X'X = Q L Q' of the scatter of c features."""

    spectrum: Float[Tensor, " c"]
    """The diagonal of L; not negative, as rounding could otherwise cancel a small penalty."""
    basis: Float[Tensor, "c c"]
    """The columns of Q."""

    @property
    def nbytes(self) -> int:
        """Memory of the decomposition."""
        return self.spectrum.nbytes + self.basis.nbytes

    def to(self, device: torch.device) -> Eigenbasis:
        """The same eigenbasis on a device."""
        return Eigenbasis(self.spectrum.to(device), self.basis.to(device))


def decompose(scatter: Float[Tensor, "c c"]) -> Eigenbasis:
    """Solve the symmetric eigenproblem of a scatter."""
    spectrum, basis = torch.linalg.eigh(scatter)
    return Eigenbasis(spectrum.clamp(min=0), basis)


def weights_of(
    eigenbasis: Eigenbasis, cross: Float[Tensor, "c k"], alphas: Float[Tensor, " p"]
) -> Float[Tensor, "p c k"]:
    """Weights of the features for every penalty, given X'y."""
    rotated = eigenbasis.basis.mT @ cross
    shrunk = rotated[None] / (eigenbasis.spectrum[None, :, None] + alphas[:, None, None])
    return eigenbasis.basis @ shrunk


def weights_with_further(
    eigenbasis: Eigenbasis,
    between: Float[Tensor, "c q"],
    scatter: Float[Tensor, "q q"],
    cross: Float[Tensor, "c k"],
    further_cross: Float[Tensor, "q k"],
    alphas: Float[Tensor, " p"],
    further_alphas: Float[Tensor, " p"],
) -> Float[Tensor, "p d k"]:
    """Weights of the features and then of q further columns, for every pair of penalties.

    ``between`` is X'Z, ``scatter`` Z'Z, ``cross`` X'y and ``further_cross`` Z'y.
    """
    basis, spectrum = eigenbasis.basis, eigenbasis.spectrum
    rotated_between, rotated_cross = basis.mT @ between, basis.mT @ cross
    denominators = spectrum[None, :, None] + alphas[:, None, None]
    shrunk = rotated_between / denominators
    penalty = torch.diag_embed(further_alphas[:, None].expand(-1, len(scatter)))
    complement = scatter - rotated_between.mT @ shrunk + penalty
    right = further_cross - shrunk.mT @ rotated_cross
    further = torch.cholesky_solve(right, torch.linalg.cholesky(complement))
    own = basis @ ((rotated_cross - rotated_between @ further) / denominators)
    return torch.cat([own, further], dim=1)
