"""Check what a labeler gives: every fault is one sentence that names labeler, image and field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from datasets.errors import DatasetError
from datasets.labels import Labels
from datasets.scenes import COLORS, FLOORS, LIGHTS, SHAPES, WALLS

_VECTORS, _MASKS = ("normals",), ("saliency", "shadow")
_WORDS = {
    "color": len(COLORS),
    "shape": len(SHAPES),
    "light": len(LIGHTS),
    "floor": len(FLOORS),
    "wall": len(WALLS),
}


def checked(labels: object, images: Tensor, labeler: str) -> Labels:
    """Return the labels of ``images`` (n x 3 x h x w). Raises DatasetError for faulty ones."""
    n, _, *size = images.shape
    if not isinstance(labels, Labels):
        raise DatasetError(
            f"the labeler {labeler} gives a {type(labels).__name__}, expected "
            "datasets.labels.Labels of all images; mend it"
        )
    for name in (field.name for field in fields(Labels)):
        value: object = getattr(labels, name)
        if value is None:
            if name in ("disparity", "saliency"):
                raise DatasetError(
                    f"the labeler {labeler} gives no {name} of image 1 of {n}; every labeler must "
                    "give disparity and saliency"
                )
            continue
        says = f"the labeler {labeler} gives {name} of"
        if not isinstance(value, Tensor):
            raise DatasetError(
                f"{says} image 1 of {n} as {type(value).__name__}, expected a tensor; mend it"
            )
        one = [] if name in _WORDS else [3, *size] if name in _VECTORS else size
        if list(value.shape) != [n, *one]:
            row = min(len(value), n - 1) if value.ndim and list(value.shape[1:]) == one else 0
            raise DatasetError(
                f"{says} image {row + 1} of {n} with the wrong shape: {_shape(value.shape)} in "
                f"all, expected {_shape([n, *one])}; mend it"
            )
        fault, rows = _fault(name, value)
        if fault:
            row = int(rows.flatten(1).any(1).int().argmax())
            cause = "" if images[row].isfinite().all() else " (the image itself has some)"
            raise DatasetError(
                f"{says} image {row + 1} of {n} {fault}{cause}; check its weights and its "
                "preparation of images, or choose another with --labeler"
            )
    return labels


def _fault(name: str, value: Tensor) -> tuple[str, Tensor]:
    """What is wrong with a label, or "", and where."""
    if name in _MASKS:
        # Comparisons are false for nan.
        outside = ~((value >= 0) & (value <= 1))
        if value.dtype != torch.bool and not outside.any():
            kind = str(value.dtype).removeprefix("torch.")
            return f"as {kind}, expected true or false", value == value
        return ("outside 0..1" if outside.any() else ""), outside
    if name in _WORDS:
        if value.is_floating_point() or value.dtype == torch.bool:
            return f"as {value.dtype}, expected whole numbers", (value == value)[:, None]
        outside = (value < 0) | (value >= _WORDS[name])
        words = f"outside 0..{_WORDS[name] - 1}"
        return (words if outside.any() else ""), outside[:, None]
    broken = ~value.isfinite()
    return ("with NaN or infinite values" if broken.any() else ""), broken


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
