"""PyTorch on an NVIDIA GPU: a copy of the denoiser on the card, in fp32 or fp16."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines.backends.torch_eager import TorchEager
from engines.engine import Tap

if TYPE_CHECKING:
    from engines.denoiser import Denoiser


def opened(
    denoiser: Denoiser,
    taps: Sequence[Tap],
    threads: int,
    in_half: bool = False,
    device: str = "cuda",
) -> TorchEager:
    """Open the engine on a copy of ``denoiser``, which stays as it is."""
    import torch

    from engines.cuda_stream import full_fp32

    torch.set_num_threads(threads)
    full_fp32()
    on_device = copy.deepcopy(denoiser.module).to(device)
    return TorchEager(denoiser.with_module(on_device.half() if in_half else on_device), taps)


def unavailable() -> str | None:
    """The reason why PyTorch cannot use a GPU here; None if it can."""
    from engines.cuda_stream import cuda_missing

    return cuda_missing()
