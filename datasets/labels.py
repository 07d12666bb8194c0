"""What is known of the scenes in n pictures, exactly (rendered) or as a labeler sees them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from datasets.raycast import Rendered


@dataclass(frozen=True, slots=True)
class Labels:
    """Label maps of n pictures at the pictures' own resolution."""

    disparity: Float[Tensor, "n h w"]
    """Relative inverse depth, standardised: mean 0 and standard deviation 1 over the labeler's training pictures."""
    saliency: Bool[Tensor, "n h w"]
    """True on the salient object."""
    normals: Float[Tensor, "n 3 h w"] | None = None
    """Unit surface normals in camera axes (right, up, towards the camera), where the labeler gives them."""

    def to(self, device: torch.device) -> Labels:
        """The same labels on another device."""
        normals = None if self.normals is None else self.normals.to(device)
        return Labels(self.disparity.to(device), self.saliency.to(device), normals)


@dataclass(frozen=True, slots=True)
class DisparityScale:
    """Mean and standard deviation (in the labeler's raw unit) that standardise relative inverse depth."""

    mean: float
    std: float


def exact_labels(rendered: Rendered, scale: DisparityScale) -> Labels:
    """The renderer's own labels, in the units that ``scale`` sets."""
    return Labels((rendered.disparity - scale.mean) / scale.std, rendered.mask, rendered.normals)


def concatenate(parts: list[Labels]) -> Labels:
    """Join the labels of several batches of pictures, in order."""
    normals = [part.normals for part in parts if part.normals is not None]
    return Labels(
        disparity=torch.cat([part.disparity for part in parts]),
        saliency=torch.cat([part.saliency for part in parts]),
        normals=torch.cat(normals) if len(normals) == len(parts) else None,
    )
