"""ONNX Runtime on an NVIDIA GPU with its TensorRT provider, in fp16."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Backend, Tap
from engines.onnx_session import OPSET, OnnxRuntime, Provider, gpu_missing

if TYPE_CHECKING:
    from engines.denoiser import Denoiser

PROVIDER = Provider(
    "TensorrtExecutionProvider",
    {"trt_fp16_enable": "1"},
    behind=(("CUDAExecutionProvider", {"use_tf32": "0"}),),
)
"""In fp32 TensorRT would silently round to TF32, so the graph is in half precision."""


def _open(denoiser: Denoiser, taps: Sequence[Tap], cache: Path, threads: int) -> OnnxRuntime:
    from engines.cuda_stream import CudaStream
    from engines.export import exported_in_half

    model = exported_in_half(denoiser, taps, OPSET, cache)
    return OnnxRuntime(model, taps, threads, PROVIDER, CudaStream())


BACKEND = Backend(
    unavailable=lambda: gpu_missing(PROVIDER.name),
    open=_open,
    precision="fp16",
    device="cuda",
    keeps_weights=True,
)
