"""The clock readings of a run, call by call of the denoiser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.errors import UserError

CALLS = "calls.safetensors"


def read_calls(path: Path) -> NDArray[np.float64]:
    """Read the clock readings of a run (calls x 5): step, network, rows, seconds, bytes."""
    try:
        calls: NDArray[np.float64] = load_file(path / CALLS)["calls"]
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(
            f"{path / CALLS} cannot be read ({error}); run again in another --out"
        ) from error
    return calls
