"""What all tests share: shapes are checked, the user's cache is left alone, and the model is opened once."""

from __future__ import annotations

import inspect
import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import onnxruntime
import pytest
import torch
import transformers
from beartype import beartype
from jaxtyping import Float, install_import_hook, jaxtyped

if TYPE_CHECKING:
    from engines.backends.torch_eager import TorchEager
    from engines.components import Components
    from engines.engine import Tap
    from engines.onnx_session import OnnxRuntime

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
    seam.Prediction.__init__ = jaxtyped(
        inspect.unwrap(seam.Prediction.__init__), typechecker=beartype
    )  # type: ignore[method-assign]


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


def _save_dpt(folder: Path, seed: int = 0) -> Path:
    """A random DPT network of four narrow layers, for 32 x 32 pixels, as a transformers folder."""
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(seed)
    config = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5],
        use_auxiliary_head=False,
    )
    DPTForDepthEstimation(config).save_pretrained(folder)
    return folder


def _save_saliency(
    path: Path, side: int, gain: float = 4.0, offset: float = -2.0, sigmoid: bool = True
) -> Path:
    """An ONNX network whose logit is ``gain`` times the normalised red channel plus ``offset``."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((1, 3, 1, 1), np.float32)
    weight[0, 0] = gain
    parts = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.array([offset], np.float32), "b"),
    ]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["logit"])]
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", ["logit"], ["map"]))
    shape = [1, 3, side, side]
    graph = helper.make_graph(
        nodes,
        "saliency",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(
                "map" if sigmoid else "logit", TensorProto.FLOAT, [1, 1, side, side]
            )
        ],
        parts,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def save_dpt() -> Callable[..., Path]:
    """Saves a small depth network as the labeler for photographs reads it."""
    return _save_dpt


@pytest.fixture(scope="session")
def save_saliency() -> Callable[..., Path]:
    """Saves a small salient-object network as the labeler for photographs reads it."""
    return _save_saliency


def _one_level(transformers: int = 1) -> diffusers.UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8,),
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            layers_per_block=1,
            transformer_layers_per_block=transformers,
            attention_head_dim=2,
            cross_attention_dim=8,
            norm_num_groups=4,
        )
    return unet.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def one_level() -> Callable[..., diffusers.UNet2DConditionModel]:
    """Draws a network of one level, always the same: to export and to compile it takes seconds."""
    return _one_level


def _module(name: str) -> dict[str, Any]:
    """What a file beside this one holds; pytest's importlib mode puts no folder of tests on the search path."""
    return runpy.run_path(str(Path(__file__).parent / f"{name}.py"))


@pytest.fixture
def card() -> Iterator[Any]:
    """A stand-in for a card, for as long as the test lasts; see card.py."""
    with _module("card")["Card"]() as card:
        yield card


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random models in the shapes of Stable Diffusion 2 and of SDXL."""
    made = _module("small_models")
    folder = tmp_path_factory.mktemp("models")
    return {"sd2": made["save_sd2"](folder / "sd2"), "sdxl": made["save_sdxl"](folder / "sdxl")}
