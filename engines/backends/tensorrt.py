"""TensorRT (10, 11 or for RTX) in fp16 on an NVIDIA GPU: one CUDA graph per shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Backend, Tap

if TYPE_CHECKING:
    from engines.denoiser import Denoiser
    from engines.tensorrt_engine import TensorRT

OPSET = 20
"""TensorRT fuses attention in the pattern of opset 20 and rejects some Attention nodes of 23."""


def _unavailable() -> str | None:
    from engines.cuda_stream import cuda_missing
    from engines.errors import EngineError
    from engines.tensorrt_dialect import library

    try:
        if library() is None:
            return (
                "TensorRT is not installed; install the extra: pip install 'scenebench[tensorrt]'"
            )
    except EngineError as error:
        return str(error)
    return cuda_missing()


def _open(denoiser: Denoiser, taps: Sequence[Tap], cache: Path, _threads: int) -> TensorRT:
    from engines.cuda_stream import CudaStream
    from engines.export import exported_in_half
    from engines.tensorrt_dialect import library
    from engines.tensorrt_engine import TensorRT

    model = exported_in_half(denoiser, taps, OPSET, cache)
    return TensorRT(library(), model, taps, "fp16", CudaStream(), cache)


BACKEND = Backend(
    unavailable=_unavailable, open=_open, precision="fp16", device="cuda", keeps_weights=True
)
