"""Maps made of how bright the images are."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from datasets.labels import DisparityScale, Labels


@dataclass(frozen=True, slots=True)
class Brightness:
    """Stands in for a labeler where images show nothing: near is what is bright, and no network is needed."""

    scale: DisparityScale = field(default_factory=lambda: DisparityScale(0.0, 1.0))
    fingerprint: str = "brightness"

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Maps of the images' size; every image's own are standardised, and what is one deviation up is salient."""
        grey = images.mean(1)
        centred = grey - grey.mean((-1, -2), keepdim=True)
        maps = centred / centred.square().mean((-1, -2), keepdim=True).sqrt().clamp(min=1e-6)
        return Labels(disparity=maps, saliency=maps > 1)
