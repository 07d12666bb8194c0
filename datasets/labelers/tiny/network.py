"""Network of the shipped labeler: a small U-Net for depth, saliency, normals and attributes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datasets.scenes import COLORS, FLOORS, LIGHTS, SHAPES, WALLS

WORDS: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "floor": tuple(FLOORS),
    "wall": tuple(WALLS),
    "light": LIGHTS,
}
"""Attribute -> its words, in the order of the attribute head's logits."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Outputs of the network for n images."""

    disparity: Float[Tensor, "n h w"]
    """Standardised inverse depth."""
    saliency_logit: Float[Tensor, "n h w"]
    normals: Float[Tensor, "n 3 h w"]
    """Unit length."""
    words: dict[str, Float[Tensor, "n k"]]
    """Logits per attribute."""


class _Block(nn.Module):
    """A residual pair of 3 x 3 convolutions, the first one dilated."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class SceneNet(nn.Module):
    """A U-Net of three resolutions, with the pixel coordinates as two further input channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(5, 16, 3, padding=1)
        self.at_half = nn.Sequential(
            nn.SiLU(), nn.Conv2d(16, 40, 3, stride=2, padding=1), _Block(40)
        )
        self.at_quarter = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(40, 80, 3, stride=2, padding=1),
            _Block(80, 1),
            _Block(80, 2),
            _Block(80, 4),
            _Block(80, 2),
        )
        self.rise_half = nn.Conv2d(80, 40, 1)
        self.merge_half = _Block(40)
        self.rise_full = nn.Conv2d(40, 16, 1)
        self.merge_full = nn.Sequential(_Block(16), nn.GroupNorm(8, 16), nn.SiLU())
        self.maps = nn.Conv2d(16, 5, 1)
        self.attributes = nn.Linear(4 * 80, sum(len(words) for words in WORDS.values()))

    def forward(self, rgb: Float[Tensor, "n 3 h w"]) -> Reading:
        """Predict from images in 0..1."""
        n, _, h, w = rgb.shape
        rows = torch.linspace(-1, 1, h, device=rgb.device).view(1, 1, h, 1).expand(n, 1, h, w)
        columns = torch.linspace(-1, 1, w, device=rgb.device).view(1, 1, 1, w).expand(n, 1, h, w)
        full = self.stem(torch.cat([rgb * 2 - 1, rows, columns], dim=1))
        half = self.at_half(full)
        quarter = self.at_quarter(half)
        half = self.merge_half(half + _twice(self.rise_half(quarter)))
        maps = self.maps(self.merge_full(full + _twice(self.rise_full(half))))
        # Attributes are pooled over the salient object, both halves and the whole image.
        weight = nn.functional.avg_pool2d(maps[:, 1:2].detach().sigmoid(), 4)
        on_object = (quarter * weight).sum((2, 3)) / (weight.sum((2, 3)) + 1e-3)
        left, right = quarter[..., : quarter.shape[-1] // 2], quarter[..., quarter.shape[-1] // 2 :]
        pooled = torch.cat(
            [on_object, left.mean((2, 3)), right.mean((2, 3)), quarter.amax((2, 3))], dim=1
        )
        logits = self.attributes(pooled).split([len(words) for words in WORDS.values()], dim=1)
        return Reading(
            disparity=maps[:, 0],
            saliency_logit=maps[:, 1],
            normals=nn.functional.normalize(maps[:, 2:5], dim=1),
            words=dict(zip(WORDS, logits, strict=True)),
        )


def _twice(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
