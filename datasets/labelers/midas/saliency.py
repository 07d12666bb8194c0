"""Saliency by a network in an ONNX file, prepared as TRACER's unless said otherwise."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from datasets.errors import DatasetError
from datasets.labelers.midas.onnx_file import open_session, precision_of, reason, size_of
from datasets.preparation import TRACER, Preparation

_ROUNDING = 1e-3
"""How far a map may leave 0..1: half precision rounds to 1e-3 near 1."""
_BLACK = 1e-6
"""The least value by which an image is divided, so that a black one stays black."""


class OnnxSaliency:
    """A network with an input of 1 x 3 x height x width, and a map of that size in 0..1."""

    def __init__(self, path: Path, side: int | None, preparation: Preparation = TRACER) -> None:
        """Open the file and run it once. Raises DatasetError if it is missing or unsuitable.

        Without ``side``, the size is the file's if it is fixed there, and else the preparation's.
        """
        try:
            stored = path.read_bytes()
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise DatasetError(
                f"cannot read the saliency model {path} ({said}); name an ONNX file"
            ) from error
        self.path, self.preparation = path, preparation
        self.session = open_session(path, stored)
        self.precision = precision_of(path, self.session)
        self.size = size_of(path, self.session, side, self.preparation.size)
        height, width = self.size
        chosen = self.preparation.differences()
        self.fingerprint = "-".join(
            [
                f"onnx-{hashlib.sha256(stored).hexdigest()[:20]}",
                str(width) if height == width else f"{height}x{width}",
                self.session.get_providers()[0],
                *([chosen] if chosen else []),
            ]
        )
        self._map(torch.zeros(1, 3, height, width))

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "1 3 h w"]) -> Bool[Tensor, "1 h w"]:
        """The saliency mask of one image in 0..1. Both resizings are bilinear."""
        use = self.preparation
        x = functional.interpolate(
            image.cpu().float(), self.size, mode="bilinear", align_corners=False
        )
        if use.by_peak:
            x = x / x.max().clamp(min=_BLACK)
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (use.mean, use.deviation))
        saliency = self._map((x - mean) / deviation)
        if use.normalise:
            saliency = _stretched(saliency)
        resized = functional.interpolate(
            saliency, image.shape[-2:], mode="bilinear", align_corners=False
        )
        # In 8-bit units, in which the default cut is exactly 1.
        return (resized[:, 0] * 255 >= use.cut * 255).to(image.device)

    def _map(self, x: Float[Tensor, "1 3 s t"]) -> Float[Tensor, "1 1 s t"]:
        height, width = self.size
        try:
            name = self.session.get_inputs()[0].name
            (first, *_) = self.session.run(None, {name: x.numpy().astype(self.precision)})
            values = torch.from_numpy(np.asarray(first, dtype=np.float32))
        except Exception as error:
            raise DatasetError(
                f"the saliency model {self.path} cannot read 1 x 3 x {height} x {width} "
                f"({reason(error)}); export it so, or choose another --saliency-size"
            ) from error
        if values.numel() != height * width:
            raise DatasetError(
                f"the saliency model {self.path} turns 1 x 3 x {height} x {width} into "
                f"{' x '.join(map(str, values.shape)) or 'a number'}, not into a map of that size; "
                "export it so, or choose another --saliency-size"
            )
        saliency = values.view(1, 1, height, width)
        if not bool(torch.isfinite(saliency).all()):
            raise DatasetError(
                f"the saliency model {self.path} gives NaN or infinity; export it again"
            )
        if self.preparation.normalise:
            # Its own minimum and maximum set the range.
            return saliency
        if not bool(((saliency >= -_ROUNDING) & (saliency <= 1 + _ROUNDING)).all()):
            raise DatasetError(
                f"the saliency model {self.path} gives values outside 0..1; "
                "export it with its sigmoid, or stretch its map with --saliency-normalise"
            )
        return saliency.clamp(0, 1)


def _stretched(saliency: Float[Tensor, "1 1 s t"]) -> Float[Tensor, "1 1 s t"]:
    """A map from its minimum to its maximum; where all values are equal, nothing is salient."""
    low, high = saliency.min(), saliency.max()
    return (saliency - low) / (high - low) if bool(high > low) else torch.zeros_like(saliency)
