"""Labels of n images: exact ones of rendered scenes, or a labeler's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datasets.errors import DatasetError
from datasets.raycast import Rendered
from datasets.scenes import COLORS, FLOORS, LIGHTS, SHAPES, WALLS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of n images, with maps at the images' resolution; None if the source lacks one."""

    disparity: Float[Tensor, "n h w"]
    """Relative inverse depth, standardised over the labeler's training images."""
    saliency: Bool[Tensor, "n h w"]
    """True on the salient object."""
    normals: Float[Tensor, "n 3 h w"] | None = None
    """Unit surface normals in camera axes (right, up, towards the camera)."""
    depth_m: Float[Tensor, "n h w"] | None = None
    """Distance along the optical axis in metres."""
    shadow: Bool[Tensor, "n h w"] | None = None
    """True where no direct light falls."""
    color: Int[Tensor, " n"] | None = None
    """Color of the salient object in the image, as an index into ``COLORS``."""
    shape: Int[Tensor, " n"] | None = None
    """Shape of the salient object, as an index into ``SHAPES``."""
    light: Int[Tensor, " n"] | None = None
    """Side that the light comes from, as an index into ``LIGHTS``."""
    floor: Int[Tensor, " n"] | None = None
    """Material of the floor, as an index into ``FLOORS``."""
    wall: Int[Tensor, " n"] | None = None
    """Color of the wall, as an index into ``WALLS``."""

    def tensors(self) -> dict[str, Tensor]:
        """Name -> label, for all labels that are not None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def take(self, rows: Sequence[int] | Tensor) -> Labels:
        """The labels of the images ``rows``."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return Labels(**{name: value[index] for name, value in self.tensors().items()})

    def to(self, device: torch.device) -> Labels:
        """The same labels on another device."""
        return Labels(**{name: value.to(device) for name, value in self.tensors().items()})


@dataclass(frozen=True, slots=True)
class DisparityScale:
    """Mean and standard deviation of raw inverse depth, in the labeler's unit."""

    mean: float
    std: float


def known(label: T | None, what: str) -> T:
    """Return ``label``. Raises DatasetError if it is None, for ``what`` in the message."""
    if label is None:
        raise DatasetError(
            f"the labeler of these images gives no {what}; choose another labeler or other tasks, "
            "or, in a run of rendered scenes, use --source rendered"
        )
    return label


def exact_labels(rendered: Rendered, scale: DisparityScale) -> Labels:
    """The renderer's labels, with inverse depth standardised by ``scale``."""
    words = rendered.attributes
    return Labels(
        disparity=(rendered.disparity - scale.mean) / scale.std,
        saliency=rendered.mask,
        normals=rendered.normals,
        depth_m=rendered.depth_m,
        shadow=rendered.shadow,
        color=_indices(tuple(COLORS), [scene.color for scene in words]),
        shape=_indices(SHAPES, [scene.shape for scene in words]),
        light=_indices(LIGHTS, [scene.light for scene in words]),
        floor=_indices(tuple(FLOORS), [scene.floor for scene in words]),
        wall=_indices(tuple(WALLS), [scene.wall for scene in words]),
    )


def _indices(words: Sequence[str], chosen: Sequence[str]) -> Int[Tensor, " n"]:
    return torch.tensor([words.index(word) for word in chosen])


def concatenate(parts: list[Labels]) -> Labels:
    """Concatenate batches of labels; a label that one batch lacks is None."""

    def joined(name: str) -> Tensor | None:
        values = [value for part in parts if (value := getattr(part, name)) is not None]
        return torch.cat(values) if len(values) == len(parts) else None

    disparity, saliency = (known(joined(name), name) for name in ("disparity", "saliency"))
    rest = [field.name for field in fields(Labels) if field.name not in ("disparity", "saliency")]
    return Labels(disparity, saliency, **{name: joined(name) for name in rest})
