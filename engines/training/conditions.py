"""What a ControlNet is shown: exact labels of scenes as images in 0..1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from engines.training.latents import rendered_scenes

NEAREST_M = 0.5
"""Depth that is white in a depth map. Nothing in the scenes is nearer."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One kind of condition."""

    file: str
    """The renderer's file of the labels."""
    channel_of: Callable[[Tensor], Tensor]
    """Labels as values in 0..1."""

    def images_of(self, labels: Shaped[Tensor, "n h w"]) -> Float[Tensor, "n 1 h w"]:
        """One channel, in half precision; a ControlNet is shown it three times."""
        return self.channel_of(labels).half()[:, None]


CONDITIONS = {
    "mask": Condition("mask.npy", lambda mask: mask),
    "depth": Condition(
        "inverse_depth.npy", lambda inverse_depth: (inverse_depth * NEAREST_M).clamp(0, 1)
    ),
}
"""``mask`` is 1 on the salient solid; ``depth`` is inverse depth (1/m) times ``NEAREST_M``."""


def training_conditions(work: Path, name: str) -> Float[Tensor, "n 1 64 64"]:
    """Conditions of all training scenes; renders them into ``work`` unless that is done."""
    condition = CONDITIONS[name]
    folder = rendered_scenes(work, "--labels")
    return condition.images_of(torch.from_numpy(np.load(folder / condition.file)))
