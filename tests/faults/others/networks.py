"""Networks that label images: their sizes, types, outputs and configurations; images to label."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.others.case import Case, Kit, Make, edit, nothing

LABEL = "dataset agreement --labelers tiny,midas --images {folder}/images --depth-scale 0,1"
RUN = f"{LABEL} --depth-model {{folder}}/dpt --saliency-model {{folder}}/net.onnx"
AGREE = "dataset agreement --labelers tiny,brightness --images {folder}/images"
HUGE = 10**29


def image_folder(folder: Path, mode: str = "RGB", side: int = 64, count: int = 2) -> Path:
    """PNG files of one mode."""
    from PIL import Image

    (folder / "images").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / "images" / f"{number}.png")
    return folder / "images"


def net(
    path: Path, shape: Sequence[Any] = (1, 3, 32, 32), kind: str = "FLOAT", out: str = "mask"
) -> None:
    """An ONNX network that turns an image into a map by a 1 x 1 convolution."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def number(values: Any, name: str) -> Any:
        return numpy_helper.from_array(np.asarray(values, np.float32), name)

    channels = 1 if out != "classes" else 2
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["f", "w"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["s", "k"], ["y"]),
    ]
    width = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else 3
    initial = [
        number(np.full((channels, width, 1, 1), 0.5), "w"),
        number({"nan": np.nan, "bytes": 255.0}.get(out, 1.0), "k"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", getattr(TensorProto, kind), shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def dpt(path: Path, **changes: Any) -> None:
    """A small DPT network."""
    import torch
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(0)
    facts: dict[str, Any] = {
        "image_size": 32,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8,
    }
    DPTForDepthEstimation(DPTConfig(**(facts | changes))).save_pretrained(path)


def labeler(saliency: Callable[[Path], Any] = net, depth: Callable[[Path], Any] = dpt) -> Make:
    """Images and the two networks that label them."""

    def make(kit: Kit, folder: Path) -> None:
        image_folder(folder)
        saliency(folder / "net.onnx")
        depth(folder / "dpt")

    return make


def saliency(**changes: Any) -> Make:
    """A saliency network with another input or output."""
    return labeler(lambda path: net(path, **changes))


def depth(then: Callable[[Path], Any]) -> Make:
    """A depth network, changed after it was saved."""

    def made(path: Path) -> None:
        dpt(path)
        then(path)

    return labeler(depth=made)


def _config(**changes: Any) -> Make:
    return depth(lambda path: edit(path / "config.json", **changes))


def _no_size(path: Path) -> None:
    stored = json.loads((path / "config.json").read_text())
    del stored["image_size"]
    (path / "config.json").write_text(json.dumps(stored))


def _cut(path: Path) -> None:
    net(path)
    path.write_bytes(path.read_bytes()[:100])


def _cut_weights(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500])


def _images(mode: str, **options: Any) -> Make:
    return lambda kit, folder: image_folder(folder, mode, **options)


def _image(name: str, change: Callable[[Path], Any]) -> Make:
    """Two images and a third file, made by ``change``."""

    def make(kit: Kit, folder: Path) -> None:
        change(image_folder(folder) / name)

    return make


def _truncated(path: Path) -> None:
    path.write_bytes((path.parent / "0.png").read_bytes()[:3000])


def _cmyk(path: Path) -> None:
    from PIL import Image

    Image.new("CMYK", (64, 64), (10, 90, 30, 0)).save(path, format="JPEG")


def _bomb(path: Path) -> None:
    """A PNG that claims to have 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


NETWORKS: tuple[Case, ...] = (
    Case("as the labeler expects", labeler(), RUN, "scored against tiny", 0),
    Case(
        "a network of another fixed size",
        saliency(shape=(1, 3, 48, 48)),
        f"{RUN} --saliency-size 32",
        "48 x 48",
    ),
    Case(
        "sizes that are read from the file",
        saliency(shape=(1, 3, 48, 40)),
        RUN,
        "scored against tiny",
        0,
    ),
    Case("channels last", saliency(shape=(1, 32, 32, 3)), RUN, "1 x 32 x 32 x 3"),
    Case("one channel", saliency(shape=(1, 1, 32, 32)), RUN, "1 x 1 x 32 x 32"),
    Case("batches of four", saliency(shape=(4, 3, 32, 32)), RUN, "4 x 3 x 32 x 32"),
    Case("bytes as the input", saliency(kind="UINT8"), RUN, "tensor(uint8)"),
    Case("double precision", saliency(kind="DOUBLE"), RUN, "tensor(double)"),
    Case("a map of NaN", saliency(out="nan"), RUN, "NaN"),
    Case("a map in 0..255", saliency(out="bytes"), RUN, "0..1"),
    Case("a cut file", labeler(_cut), RUN, "not an ONNX network"),
    Case(
        "text in place of a network",
        labeler(lambda path: path.write_text("hello")),
        RUN,
        "not an ONNX network",
    ),
    Case("a folder in place of a network", labeler(lambda path: path.mkdir()), RUN, "net.onnx"),
    Case("no depth network", labeler(depth=lambda path: path.mkdir()), RUN, "depth model"),
    Case(
        "a segmenter in place of a depth network", _config(model_type="segformer"), RUN, "segformer"
    ),
    Case("a size that is not known", depth(_no_size), RUN, "dpt"),
    Case("a size of null", _config(image_size=None), RUN, "image_size"),
    Case("a size of words", _config(image_size="large"), RUN, "depth model"),
    Case("cut weights of depth", depth(_cut_weights), RUN, "depth model"),
    Case("depth of 10^29 layers", _config(num_hidden_layers=HUGE), RUN, "num_hidden_layers"),
    Case("depth of 10^29 channels", _config(hidden_size=HUGE), RUN, "hidden_size"),
    Case("a scale without spread", labeler(), RUN.replace("0,1", "0,0"), "depth_scale"),
    Case("a cut beyond the map", labeler(), f"{RUN} --saliency-cut 1.5", "saliency_cut"),
    Case("a preset that is not known", labeler(), f"{RUN} --saliency-preset u3", "u2net"),
    # Images to label.
    Case("grey images", _images("L"), AGREE, "on 2 images", 0),
    Case("images with alpha", _images("RGBA"), AGREE, "on 2 images", 0),
    Case("images of 16 bits", _images("I;16"), AGREE, "more than 8 bits"),
    Case("images of a palette", _images("P"), AGREE, "on 2 images", 0),
    Case("a truncated PNG", _image("2.png", _truncated), AGREE, "2.png"),
    Case("a JPEG of four inks, named PNG", _image("2.png", _cmyk), AGREE, "on 3 images", 0),
    Case("text named PNG", _image("2.png", lambda path: path.write_text("x")), AGREE, "2.png"),
    Case("a PNG of 60,000 x 60,000 pixels", _image("2.png", _bomb), AGREE, "2.png"),
    Case("a folder named PNG", _image("2.png", lambda path: path.mkdir()), AGREE, "2.png"),
    Case(
        "images of two sizes",
        lambda kit, folder: [image_folder(folder, side=64), image_folder(folder, side=32, count=1)],
        AGREE,
        "another size",
    ),
    Case("images of no size that the labeler takes", _images("RGB", side=3), AGREE, "3 x 3 pixels"),
    Case("no images", lambda kit, folder: (folder / "images").mkdir(), AGREE, "PNG"),
    Case("no folder of images", nothing, AGREE, "images"),
)
