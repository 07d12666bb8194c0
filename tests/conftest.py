"""What all tests share: shapes are checked, the user's cache is left alone, and the model is opened once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import onnxruntime
import pytest
import torch
import transformers
from beartype import beartype
from jaxtyping import Float, install_import_hook, jaxtyped

if TYPE_CHECKING:
    from engines.backends.onnxruntime import OnnxRuntime
    from engines.backends.torch_eager import TorchEager
    from engines.engine import Tap
    from engines.load import Components

# What our modules import must be loaded before the hook: inside it, Python compiles it anew in every run.
LOADED = (
    diffusers.AutoencoderKL,
    diffusers.LMSDiscreteScheduler,
    diffusers.UNet2DConditionModel,
    onnxruntime.InferenceSession,
    transformers.CLIPTextModel,
    transformers.CLIPTokenizer,
    transformers.DPTForDepthEstimation,
)
# Not bench: its configuration takes what users typed, and refuses it in words.
install_import_hook(["extract", "probes", "engines", "datasets"], "beartype.beartype")
torch.set_num_threads(1)


def _check_predictions() -> None:
    """Check the shapes of every prediction too: its module imports their names for the type checker alone."""
    import engines.engine as seam

    seam.Float, seam.Tensor = Float, torch.Tensor  # type: ignore[attr-defined]
    seam.Prediction.__init__ = jaxtyped(inspect.unwrap(seam.Prediction.__init__), typechecker=beartype)  # type: ignore[method-assign]


_check_predictions()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of this session."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCENEBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def components() -> Components:
    """The shipped model."""
    from engines.load import load
    from engines.models.tiny import MODEL

    return load(MODEL.source)


@pytest.fixture(scope="session")
def taps(components: Components) -> tuple[Tap, ...]:
    """All taps of the shipped model."""
    from extract.taps import self_attention_taps

    return self_attention_taps(components.unet)


@pytest.fixture(scope="session")
def eager(components: Components, taps: tuple[Tap, ...], cache: Path) -> TorchEager:
    """The shipped model in PyTorch."""
    from engines.backends.torch_eager import BACKEND

    return BACKEND.open(components.unet, taps, cache, 1)


@pytest.fixture(scope="session")
def onnx_engine(components: Components, taps: tuple[Tap, ...], cache: Path) -> OnnxRuntime:
    """The shipped model in ONNX Runtime, opened as a user's first run opens it."""
    from engines.backends.onnxruntime import BACKEND

    return BACKEND.open(components.unet, taps, cache, 1)
