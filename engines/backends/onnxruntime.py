"""ONNX Runtime on the CPU, which reads and writes PyTorch's memory: the default engine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Backend, Tap
from engines.onnx_session import OPSET, TimedOnnxRuntime

if TYPE_CHECKING:
    from engines.denoiser import Denoiser


def _unavailable() -> str | None:
    if find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed; install the extra: pip install 'scenebench[cpu]'"
    return None


def _open(denoiser: Denoiser, taps: Sequence[Tap], cache: Path, threads: int) -> TimedOnnxRuntime:
    from engines.export import exported

    return TimedOnnxRuntime(exported(denoiser, taps, OPSET, cache, fuse=True), taps, threads)


BACKEND = Backend(unavailable=_unavailable, open=_open, keeps_weights=True)
