"""PyTorch on an NVIDIA GPU: a copy of the UNet on the card, in fp32 or fp16."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines.backends.torch_eager import TorchEager
from engines.engine import Tap

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def opened(
    unet: UNet2DConditionModel, taps: Sequence[Tap], threads: int, in_half: bool = False, device: str = "cuda"
) -> TorchEager:
    """The engine; the caller's UNet stays where and what it is."""
    import torch

    # Its types lack what it has for convolutions.
    cudnn: Any = torch.backends.cudnn
    torch.set_num_threads(threads)
    # fp32 means fp32: TF32 rounds every factor to 10 bits, and is what convolutions do unless they are told.
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    cudnn.conv.fp32_precision = "ieee"
    own = copy.deepcopy(unet).to(device)
    return TorchEager(own.half() if in_half else own, taps)


def unavailable() -> str | None:
    """Why PyTorch cannot use a GPU here, in a sentence; None if it can."""
    from engines.lane import cuda_missing

    return cuda_missing()
