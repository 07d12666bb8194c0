"""PyTorch on an NVIDIA GPU: a copy of the UNet on the card, in fp32 or fp16."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines.backends.torch_eager import TorchEager
from engines.engine import Tap

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def opened(
    unet: UNet2DConditionModel,
    taps: Sequence[Tap],
    threads: int,
    in_half: bool = False,
    device: str = "cuda",
) -> TorchEager:
    """The engine; the caller's UNet stays where and what it is."""
    import torch

    from engines.cuda_stream import full_fp32

    torch.set_num_threads(threads)
    full_fp32()
    own = copy.deepcopy(unet).to(device)
    return TorchEager(own.half() if in_half else own, taps)


def unavailable() -> str | None:
    """Why PyTorch cannot use a GPU here, in a sentence; None if it can."""
    from engines.cuda_stream import cuda_missing

    return cuda_missing()
