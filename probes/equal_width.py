"""The control for width: a wide layer seen through as many random directions as the narrowest layer has channels.

With P of orthonormal columns, the projected activations X P have the second moments P'X'X P and P'X'y, so this probe
comes from the sums that are there already; its weights on the activations are P times those on the projection.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.moments import Moments
from probes.ridge import Fit


@cache
def projection(channels: int, width: int) -> Float[Tensor, "{channels} {width}"]:
    """Orthonormal directions, uniformly random among all sets of so many; the two numbers alone decide them."""
    drawn = np.random.default_rng([channels, width]).standard_normal((channels, width))
    directions, triangle = np.linalg.qr(drawn)
    # With the signs of the triangle's diagonal they are uniform (Mezzadri 2007), and no matter of the LAPACK at hand.
    return torch.from_numpy(directions * np.sign(np.diag(triangle)))


def projected(moments: Moments, directions: Float[Tensor, "c w"]) -> Moments:
    """The moments after the first c columns have been projected; the other columns follow as they are."""
    c = len(directions)
    cross = directions.mT @ moments.scatter[:c, c:]
    top = torch.cat([directions.mT @ moments.scatter[:c, :c] @ directions, cross], dim=1)
    scatter = torch.cat([top, torch.cat([cross.mT, moments.scatter[c:, c:]], dim=1)])
    return Moments(moments.n, torch.cat([moments.mean[:c] @ directions, moments.mean[c:]]), scatter)


def on_activations(solved: Fit, directions: Float[Tensor, "c w"]) -> Fit:
    """The same probes, with weights on the activations themselves."""
    return replace(solved, weights=directions @ solved.weights)
