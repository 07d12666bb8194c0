"""PyTorch on an NVIDIA GPU in fp32 without TF32: the reference for other engines on a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Backend, Tap
from engines.torch_cuda import opened, unavailable

if TYPE_CHECKING:
    from engines.backends.torch_eager import TorchEager
    from engines.denoiser import Denoiser


def _open(denoiser: Denoiser, taps: Sequence[Tap], _cache: Path, threads: int) -> TorchEager:
    return opened(denoiser, taps, threads)


BACKEND = Backend(
    unavailable=unavailable, open=_open, precision="fp32", device="cuda", keeps_weights=True
)
