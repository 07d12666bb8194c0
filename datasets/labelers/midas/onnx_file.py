"""Open an ONNX file of one image input, and read the size and the precision of that input."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.errors import DatasetError

_PRECISIONS: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}


def open_session(path: Path, stored: bytes) -> Any:
    """Open a session on the current card or the CPU. Raises DatasetError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DatasetError(
            "a salient-object network needs onnxruntime; pip install 'scenebench[cpu]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait slow down the engine that generates images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in available and torch.cuda.is_available():
        # The current card: each of several ranks has its own.
        card = {"device_id": torch.cuda.current_device()}
        providers.insert(0, ("CUDAExecutionProvider", card))
    try:
        # From memory: the fingerprint would miss weights in other files, so those are refused.
        return onnxruntime.InferenceSession(stored, options, providers=providers)
    except Exception as error:
        raise DatasetError(
            f"{path} is not an ONNX network in one file ({reason(error)}); export it"
        ) from error


def precision_of(path: Path, session: Any) -> type[np.floating[Any]]:
    """Return the type of the input's numbers. Raises DatasetError unless it is a float's."""
    stated = session.get_inputs()[0].type if session.get_inputs() else "nothing"
    if stated not in _PRECISIONS:
        raise DatasetError(
            f"the saliency model {path} takes {stated}, not images in fp32 or fp16; export it so"
        )
    return _PRECISIONS[stated]


def size_of(path: Path, session: Any, asked: int | None, default: int) -> tuple[int, int]:
    """Return height and width of the input: the file's, or those asked for, or the default.

    Raises DatasetError when the file takes something else than one image of that size.
    """
    inputs = session.get_inputs()
    # A file may also leave the number of dimensions open.
    shape = inputs[0].shape or [None] * 4
    fits = len(inputs) == 1 and len(shape) == 4
    if not fits or any(
        isinstance(fixed, int) and fixed != wanted
        for fixed, wanted in zip(shape[:2], (1, 3), strict=True)
    ):
        found = " and ".join(" x ".join(map(_shown, one.shape)) or "a number" for one in inputs)
        raise DatasetError(
            f"the saliency model {path} takes {found}, not 1 x 3 x height x width; export it so"
        )
    fixed = [length if isinstance(length, int) and length > 0 else None for length in shape[2:]]
    if asked is not None and any(length not in (None, asked) for length in fixed):
        takes = " x ".join(map(_shown, fixed))
        raise DatasetError(
            f"the saliency model {path} takes images of {takes} pixels, not of {asked} x {asked}; "
            "choose another --saliency-size, or leave it out"
        )
    other = asked or next((length for length in fixed if length), default)
    return fixed[0] or other, fixed[1] or other


def reason(error: Exception) -> str:
    """Return a library's message in one line."""
    return textwrap.shorten(str(error).strip() or type(error).__name__, 300).rstrip(".")


def _shown(length: object) -> str:
    return "any" if length is None else str(length)
