"""How an image becomes the input of a salient-object network, and its map a mask."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Preset = Literal["tracer", "u2net", "isnet", "bria"]

_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What belongs to a network but is not in its file; images and maps are in 0..1."""

    mean: tuple[float, ...] = _IMAGENET_MEAN
    """Of red, green and blue, subtracted from the image."""
    deviation: tuple[float, ...] = _IMAGENET_DEVIATION
    """By which the difference is divided."""
    cut: float = 1 / 255
    """A pixel is salient from this value of the map on."""
    normalise: bool = False
    """Whether the map is first stretched to 0..1 by its own minimum and maximum."""
    by_peak: bool = False
    """Whether the resized image is divided by its largest value before the mean is subtracted."""
    size: int = 512
    """Height and width of the input, where the file leaves it open."""

    def differences(self) -> str:
        """What differs from TRACER's, apart from the size, or nothing."""
        return ",".join(
            f"{entry.name}={getattr(self, entry.name)}"
            for entry in fields(self)
            if entry.name != "size" and getattr(self, entry.name) != entry.default
        )


TRACER = Preparation()
"""It stores its map in 8 bits, rounded down, and the paper's authors threshold at 0."""
_UNIT = (1.0, 1.0, 1.0)
PRESETS: dict[Preset, Preparation] = {
    "tracer": TRACER,
    # U-2-Net, u2net_test.py and data_loader.py.
    "u2net": Preparation(cut=0.5, normalise=True, by_peak=True, size=320),
    # DIS, IS-Net/Inference.py.
    "isnet": Preparation((0.5,) * 3, _UNIT, cut=0.5, normalise=True, size=1024),
    # RMBG-1.4's model card; RMBG-2.0 has the mean and deviation of ImageNet.
    "bria": Preparation((0.5,) * 3, _UNIT, cut=0.5, normalise=True, size=1024),
}
"""By network, after its authors' inference code. Of the last three that code stores the map; it is
cut at a half here."""
