"""The control for width: probes of as many random directions as the narrowest layer has channels.

With orthonormal columns P, the projected activations X P have the second moments P'X'X P and P'X'y,
so these probes need no further statistics. Their weights on the activations are P times those on
the projection.
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
    """Uniformly random orthonormal directions, determined by the two sizes alone."""
    gaussian = np.random.default_rng([channels, width]).standard_normal((channels, width))
    directions, triangle = np.linalg.qr(gaussian)
    # The signs of the diagonal make the directions uniform (Mezzadri 2007), with any LAPACK.
    return torch.from_numpy(directions * np.sign(np.diag(triangle)))


def projected(moments: Moments, directions: Float[Tensor, "c w"]) -> Moments:
    """The moments with the first c columns projected and the others unchanged."""
    c = len(directions)
    cross = directions.mT @ moments.scatter[:c, c:]
    top = torch.cat([directions.mT @ moments.scatter[:c, :c] @ directions, cross], dim=1)
    scatter = torch.cat([top, torch.cat([cross.mT, moments.scatter[c:, c:]], dim=1)])
    return Moments(moments.n, torch.cat([moments.mean[:c] @ directions, moments.mean[c:]]), scatter)


def on_activations(projected_fit: Fit, directions: Float[Tensor, "c w"]) -> Fit:
    """The same probes, with weights on the activations instead of their projection."""
    return replace(projected_fit, weights=directions @ projected_fit.weights)
