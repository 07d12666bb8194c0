"""What a salient-object network expects, against its authors' procedure in numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from datasets.errors import DatasetError
from datasets.labelers.midas.saliency import OnnxSaliency
from datasets.preparation import PRESETS, TRACER, Preparation, Preset

SIDE = 24
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Shape = Sequence[int | str | None]


def save(
    path: Path,
    shape: Shape = (1, 3, SIDE, SIDE),
    gain: float = 3.0,
    scale: float = 1.0,
    offset: float = 0.0,
    half: bool = False,
    sigmoid: bool = True,
    pooled: bool = False,
    inputs: int = 1,
) -> Path:
    """A map of ``scale`` times a sigmoid of the channels' mean, plus ``offset``, in the file."""
    kind, number = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    constants = {
        "w": np.full((1, 3, 1, 1), gain / 3, number),
        "k": np.array(scale, number),
        "a": np.array(offset, number),
    }
    nodes = [
        helper.make_node("Conv", ["x0", "w"], ["c"])
        if len(shape) == 4
        else helper.make_node("Identity", ["x0"], ["c"]),
        helper.make_node("Sigmoid" if sigmoid else "Identity", ["c"], ["s"]),
        helper.make_node("Mul", ["s", "k"], ["m"]),
        helper.make_node("Add", ["m", "a"], ["y"]),
        helper.make_node("GlobalAveragePool", ["y"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "saliency",
        [helper.make_tensor_value_info(f"x{n}", kind, shape) for n in range(inputs)],
        [helper.make_tensor_value_info("z" if pooled else "y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def example_image(kind: str) -> torch.Tensor:
    """An image of the network's size, where nothing is resized."""
    values = np.random.default_rng(0).random((1, 3, SIDE, SIDE), dtype=np.float32)
    ramp = np.broadcast_to(np.linspace(0, 1, SIDE, dtype=np.float32), values.shape)
    made = {"noise": values, "ramp": ramp, "dark": values * 0.3, "black": values * 0}
    return torch.from_numpy(np.ascontiguousarray(made[kind]))


def authors_mask(preset: str, image: torch.Tensor, scale: float, offset: float) -> np.ndarray:
    """The authors' steps, in double precision, with a network as :func:`save` writes it."""
    x = image[0].permute(1, 2, 0).double().numpy()
    if preset == "u2net":
        x = x / max(x.max(), 1e-6)
    x = (x - MEAN) / DEVIATION if preset in ("tracer", "u2net") else (x - 0.5) / 1.0
    found = scale / (1 + np.exp(-3.0 * x.mean(-1))) + offset
    if preset == "tracer":
        return np.floor(found * 255) > 0
    spread = np.ptp(found)
    return (found - found.min()) / spread >= 0.5 if spread else np.zeros_like(found, bool)


@pytest.mark.parametrize("kind", ["noise", "ramp", "dark", "black"])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.2, 0.01), (0.01, 0.0)])
@pytest.mark.parametrize("preset", get_args(Preset))
def test_a_preset_makes_its_authors_mask(
    preset: Preset, kind: str, scale: float, offset: float, tmp_path: Path
) -> None:
    path = save(tmp_path / "mask.onnx", scale=scale, offset=offset)
    image = example_image(kind)
    if preset != "tracer" and kind == "black":
        expected = np.zeros((SIDE, SIDE), bool)
    else:
        expected = authors_mask(preset, image, scale, offset)
    mask = OnnxSaliency(path, None, PRESETS[preset])(image)[0].numpy()
    # Rounding may move a pixel whose value is the cut.
    assert np.mean(mask != expected) <= 1 / SIDE**2


def test_a_soft_map_is_no_foreground_everywhere_by_its_preset(tmp_path: Path) -> None:
    path = save(tmp_path / "soft.onnx", scale=0.2, offset=0.01)
    shares = {
        name: float(OnnxSaliency(path, None, use)(example_image("ramp")).double().mean())
        for name, use in PRESETS.items()
    }
    assert shares["tracer"] == 1
    assert all(0.3 < share < 0.7 for name, share in shares.items() if name != "tracer")


@pytest.mark.parametrize(
    "changes",
    [{"cut": 0.3}, {"cut": 0.8}, {"mean": (0.1, 0.2, 0.3)}, {"deviation": (2.0, 2.0, 2.0)}],
    ids=str,
)
def test_free_values_are_what_the_network_gets(changes: dict[str, object], tmp_path: Path) -> None:
    use = replace(Preparation(cut=0.5), **changes)
    image = example_image("noise")
    x = image[0].permute(1, 2, 0).double().numpy()
    x = (x - np.array(use.mean)) / np.array(use.deviation)
    expected = 1 / (1 + np.exp(-3.0 * x.mean(-1))) >= use.cut
    mask = OnnxSaliency(save(tmp_path / "mask.onnx"), None, use)(image)[0].numpy()
    assert 0 < expected.mean() < 1
    assert np.array_equal(mask, expected)


def test_the_fingerprint_names_the_preparation_only_where_it_is_not_tracers(
    tmp_path: Path,
) -> None:
    path = save(tmp_path / "mask.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:20]
    plain = f"onnx-{digest}-{SIDE}-CPUExecutionProvider"
    uses = [TRACER, replace(TRACER, size=320)]
    assert {OnnxSaliency(path, side, use).fingerprint for use in uses for side in (None, SIDE)} == {
        plain
    }
    changed = [
        replace(TRACER, mean=(0.5, 0.5, 0.5)),
        replace(TRACER, deviation=(0.5, 0.5, 0.5)),
        replace(TRACER, cut=0.5),
        replace(TRACER, normalise=True),
        replace(TRACER, by_peak=True),
        PRESETS["u2net"],
        PRESETS["isnet"],
    ]
    found = {OnnxSaliency(path, None, use).fingerprint for use in changed}
    assert len(found) == len(changed)
    assert all(name.startswith(f"{plain}-") for name in found)


@pytest.mark.parametrize(
    ("shape", "asked", "use", "size"),
    [
        ((1, 3, 16, 16), None, TRACER, (16, 16)),
        ((1, 3, 16, 16), 16, TRACER, (16, 16)),
        ((1, 3, 16, 16), None, PRESETS["isnet"], (16, 16)),
        ((1, 3, 16, 40), None, TRACER, (16, 40)),
        ((1, 3, "h", 16), None, TRACER, (16, 16)),
        ((1, 3, 16, None), 16, TRACER, (16, 16)),
        (("b", 3, "h", "w"), None, TRACER, (512, 512)),
        (("b", 3, "h", "w"), None, PRESETS["u2net"], (320, 320)),
        (("b", 3, "h", "w"), 40, PRESETS["u2net"], (40, 40)),
        ((None, "c", None, None), 40, TRACER, (40, 40)),
    ],
)
def test_the_size_is_the_files_or_else_the_one_chosen(
    shape: Shape, asked: int | None, use: Preparation, size: tuple[int, int], tmp_path: Path
) -> None:
    network = OnnxSaliency(save(tmp_path / "mask.onnx", shape), asked, use)
    assert network.size == size
    assert network(example_image("ramp")).shape == (1, SIDE, SIDE)


@pytest.mark.parametrize(
    ("made", "asked", "sentence"),
    [
        ({"shape": (1, 3, 64, 64)}, 32, "takes images of 64 x 64 pixels, not of 32 x 32"),
        ({"shape": (1, 3, 16, 40)}, 16, "takes images of 16 x 40 pixels, not of 16 x 16"),
        ({"shape": (1, 3, "h", 64)}, 32, "takes images of any x 64 pixels, not of 32 x 32"),
        ({"shape": (4, 3, 16, 16)}, None, "takes 4 x 3 x 16 x 16, not 1 x 3 x height x width"),
        ({"shape": (1, 16, 16, 3)}, None, "takes 1 x 16 x 16 x 3, not 1 x 3 x height x width"),
        ({"shape": (1, 3, 16)}, None, "takes 1 x 3 x 16, not 1 x 3 x height x width"),
        ({"inputs": 2}, None, f"takes 1 x 3 x {SIDE} x {SIDE} and 1 x 3 x {SIDE} x {SIDE}, not"),
        ({"pooled": True}, None, "into 1 x 1 x 1 x 1, not into a map of that size"),
        ({"scale": 1.1, "gain": 0.0, "offset": 0.6}, None, "gives values outside 0..1"),
    ],
    ids=str,
)
def test_what_a_network_takes_is_said_with_both_numbers(
    made: dict[str, object], asked: int | None, sentence: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "mask.onnx", **made)
    with pytest.raises(DatasetError) as caught:
        OnnxSaliency(path, asked)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_of_whole_numbers_is_one_sentence(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "saliency",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
    )
    path = tmp_path / "mask.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    with pytest.raises(DatasetError, match=r"takes tensor\(uint8\), not images in fp32 or fp16"):
        OnnxSaliency(path, None)


@pytest.mark.parametrize(
    "made",
    [{"half": True}, {"scale": 1.0002}, {"offset": -1e-6}],
    ids=["half precision", "above 1", "below 0"],
)
def test_rounding_is_no_reason_to_refuse_a_map(made: dict[str, object], tmp_path: Path) -> None:
    use = replace(TRACER, cut=0.5)
    plain = OnnxSaliency(save(tmp_path / "plain.onnx"), None, use)(example_image("ramp"))
    network = OnnxSaliency(save(tmp_path / "mask.onnx", **made), None, use)
    for flat in (0.0, 1.0):
        network(torch.full((1, 3, SIDE, SIDE), flat))
    assert torch.equal(network(example_image("ramp")), plain)


def test_a_stretched_map_may_have_any_finite_values(tmp_path: Path) -> None:
    logits = save(tmp_path / "logits.onnx", sigmoid=False)
    mask = OnnxSaliency(logits, None, PRESETS["isnet"])(example_image("ramp"))
    assert float(mask.double().mean()) == 0.5
    broken = save(tmp_path / "nan.onnx", offset=float("nan"))
    with pytest.raises(DatasetError, match="gives NaN or infinity"):
        OnnxSaliency(broken, None, PRESETS["isnet"])
