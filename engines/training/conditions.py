"""What a ControlNet is shown: exact labels of the training scenes as images in 0..1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engines.training.latents import rendered_scenes

NEAREST_M = 0.5
"""Depth that is white in a depth map. Nothing in the scenes is nearer."""

CONDITIONS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "mask": ("mask.npy", lambda mask: mask.half()),
    "depth": ("inverse_depth.npy", lambda inverse_depth: (inverse_depth * NEAREST_M).clamp(0, 1)),
}
"""Condition -> file of the renderer, and function of its values.

``mask`` is 1 on the salient solid; ``depth`` is inverse depth in units of 1 / ``NEAREST_M``.
"""


def training_conditions(work: Path, condition: str) -> Float[Tensor, "n 1 64 64"]:
    """One channel in 0..1 per training scene, in half precision; render into ``work`` if needed."""
    file, image_of = CONDITIONS[condition]
    folder = rendered_scenes(work, "--labels")
    return image_of(torch.from_numpy(np.load(folder / file)))[:, None]
