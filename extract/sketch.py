"""Sketch wide activations: project their channels to fewer by a seeded orthogonal map.

Sums of products of c channels take c x c numbers. A random orthogonal projection to w channels
keeps inner products up to an error of order 1 / sqrt(w) (Johnson and Lindenstrauss 1984), so that a
ridge probe of the sketch approximates that of all channels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

_Key = tuple[str, int, torch.device]


@dataclass(frozen=True, slots=True)
class Sketch:
    """A projection per layer, equal for all networks; narrower layers stay as they are."""

    width: int
    """Channels that are left."""
    _maps: dict[_Key, Tensor] = field(default_factory=dict)

    def __call__(
        self, layer: str, activation: Float[Tensor, "n tokens channels"]
    ) -> Float[Tensor, "n tokens width"]:
        """Project an activation of a layer, in its own precision."""
        channels = activation.shape[-1]
        if channels <= self.width:
            return activation
        key = layer, channels, activation.device
        if key not in self._maps:
            self._maps[key] = orthogonal_map(layer, channels, self.width).to(activation.device)
        projected: Tensor = activation @ self._maps[key].to(activation.dtype)
        return projected


def orthogonal_map(layer: str, channels: int, width: int) -> Float[Tensor, "channels width"]:
    """Orthonormal columns, drawn uniformly from a seed that belongs to the layer's name."""
    seed = zlib.crc32(f"{layer} {channels} {width}".encode())
    draw = torch.randn(channels, width, generator=torch.Generator().manual_seed(seed))
    basis, upper = torch.linalg.qr(draw.double())
    # With the signs of R's diagonal the distribution is uniform (Haar).
    signed: Tensor = basis * upper.diagonal().sign()
    return signed.float()
