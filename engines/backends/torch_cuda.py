"""PyTorch on an NVIDIA GPU in fp32 without TF32: the reference for other engines on a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Backend, Tap
from engines.torch_cuda import opened, unavailable

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from engines.backends.torch_eager import TorchEager


def _open(
    unet: UNet2DConditionModel, taps: Sequence[Tap], _cache: Path, threads: int
) -> TorchEager:
    return opened(unet, taps, threads)


BACKEND = Backend(
    unavailable=unavailable, open=_open, precision="fp32", device="cuda", keeps_weights=True
)
