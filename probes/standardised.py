"""Features scaled to unit variance, from their second moments alone.

A few channels of some networks vary far more than all others (massive activations), and ridge
regression with one penalty then shrinks the others to nothing. Dividing every channel by its
standard deviation gives all channels the same penalty. With D the diagonal matrix of the
deviations, the scatter of the scaled features is D^-1 X'X D^-1, and weights w of them are weights
D^-1 w of the features themselves. So no row is read again.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probes.moments import Moments

_EPSILON = torch.finfo(torch.float64).eps


def deviations(moments: Moments, features: Tensor) -> Float[Tensor, " c"]:
    """Standard deviations of the features; 1 of a constant one, as in scikit-learn's scaler."""
    variance = moments.scatter.diagonal()[features] / moments.n
    # The error of a variance that is computed from so many rows (scikit-learn's bound).
    noise = moments.n * _EPSILON * variance + (moments.n * _EPSILON * moments.mean[features]) ** 2
    return torch.where(variance <= noise, 1.0, variance.sqrt())


def scaled(moments: Moments, features: Tensor, factors: Float[Tensor, " c"]) -> Moments:
    """The moments with each feature multiplied by its factor, and the other columns unchanged."""
    every = torch.ones_like(moments.mean)
    every[features] = factors
    return Moments(
        moments.n, moments.mean * every, moments.scatter * every[:, None] * every[None, :]
    )
