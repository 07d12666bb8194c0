"""Shared fixtures: shape checks, a cache folder of the session, and the shipped model."""

from __future__ import annotations

import gc
import inspect
import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import onnxruntime
import pytest
import torch
import transformers
from jaxtyping import Float, jaxtyped

from tests.typecheck import CHECKS_SHAPES, checked, install_hook

if TYPE_CHECKING:
    from engines.backends.torch_eager import TorchEager
    from engines.components import Components
    from engines.denoiser import Denoiser
    from engines.engine import Tap
    from engines.onnx_session import OnnxRuntime

# Loaded before the import hook, inside which Python would compile them again in every run.
LOADED = (
    diffusers.AutoencoderKL,
    diffusers.LMSDiscreteScheduler,
    diffusers.UNet2DConditionModel,
    onnxruntime.InferenceSession,
    transformers.CLIPTextModel,
    transformers.CLIPTokenizer,
    transformers.DPTForDepthEstimation,
)
# Not bench: its configuration checks the types of users' input itself.
if CHECKS_SHAPES:
    install_hook(["extract", "probes", "engines", "datasets"])
torch.set_num_threads(1)


def _check_predictions() -> None:
    """Check the shapes of predictions, whose module imports its types for type checking only."""
    from engines import engine

    engine.Float, engine.Tensor = Float, torch.Tensor  # type: ignore[attr-defined]
    unchecked = inspect.unwrap(engine.Prediction.__init__)
    engine.Prediction.__init__ = jaxtyped(unchecked, typechecker=checked)  # type: ignore[method-assign]


if CHECKS_SHAPES:
    _check_predictions()


def pytest_collection_finish() -> None:
    """Leave what is imported out of garbage collections, of which a run makes several."""
    gc.collect()
    gc.freeze()


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
    return components.taps()


@pytest.fixture(scope="session")
def eager(components: Components, taps: tuple[Tap, ...], cache: Path) -> TorchEager:
    """The shipped model in PyTorch."""
    from engines.backends.torch_eager import BACKEND

    return BACKEND.open(components.denoiser, taps, cache, 1)


@pytest.fixture(scope="session")
def onnx_engine(components: Components, taps: tuple[Tap, ...], cache: Path) -> OnnxRuntime:
    """The shipped model in ONNX Runtime."""
    from engines.backends.onnxruntime import BACKEND

    return BACKEND.open(components.denoiser, taps, cache, 1)


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
    """Saves a small depth network for the labeler of photographs."""
    return _save_dpt


@pytest.fixture(scope="session")
def save_saliency() -> Callable[..., Path]:
    """Saves a small saliency network for the labeler of photographs."""
    return _save_saliency


def _one_level(transformers: int = 1) -> Denoiser:
    from engines.families.unet import FAMILY

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
    return FAMILY.wrapped(unet.requires_grad_(False).eval(), (4, 8, 8))


@pytest.fixture(scope="session")
def one_level() -> Callable[..., Denoiser]:
    """Draws a network of one level, always the same, which is exported and compiled in seconds."""
    return _one_level


def _module(name: str) -> dict[str, Any]:
    """Run a file of this folder, which pytest's importlib mode does not put on the search path."""
    return runpy.run_path(str(Path(__file__).parent / f"{name}.py"))


@pytest.fixture
def card() -> Iterator[Any]:
    """A stand-in for a card during the test; see card.py."""
    with _module("card")["Card"]() as card:
        yield card


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random models in the shapes of Stable Diffusion 2 and of SDXL."""
    module = _module("small_models")
    folder = tmp_path_factory.mktemp("models")
    return {kind: module[f"save_{kind}"](folder / kind) for kind in ("sd2", "sdxl")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages without weights."""
    root = Path(__file__).parent.parent
    for package in ("bench", "extract", "probes", "engines", "datasets"):
        ignored = shutil.ignore_patterns("weights", "__pycache__")
        shutil.copytree(root / package, tmp_path / package, ignore=ignored)
    return tmp_path
