"""ONNX Runtime on an NVIDIA GPU with its CUDA provider, in fp32 without TF32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Backend, Tap
from engines.onnx_session import OPSET, OnnxRuntime, Provider, gpu_missing

if TYPE_CHECKING:
    from engines.denoiser import Denoiser

PROVIDER = Provider("CUDAExecutionProvider", {"use_tf32": "0"})


def _open(denoiser: Denoiser, taps: Sequence[Tap], cache: Path, threads: int) -> OnnxRuntime:
    from engines.cuda_stream import CudaStream
    from engines.export import exported

    model = exported(denoiser, taps, OPSET, cache, fuse=True)
    return OnnxRuntime(model, taps, threads, PROVIDER, CudaStream())


BACKEND = Backend(
    unavailable=lambda: gpu_missing(PROVIDER.name), open=_open, device="cuda", keeps_weights=True
)
