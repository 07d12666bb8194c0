"""Label images by their brightness."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from datasets.labels import DisparityScale, Labels


@dataclass(frozen=True, slots=True)
class Brightness:
    """Takes brightness as depth and saliency, for images of untrained models."""

    scale: DisparityScale = field(default_factory=lambda: DisparityScale(0.0, 1.0))
    fingerprint: str = "brightness"

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Standardised brightness of each image; above one standard deviation is salient."""
        grey = images.mean(1)
        centred = grey - grey.mean((-1, -2), keepdim=True)
        maps = centred / centred.square().mean((-1, -2), keepdim=True).sqrt().clamp(min=1e-6)
        return Labels(disparity=maps, saliency=maps > 1)
