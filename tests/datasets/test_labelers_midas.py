"""The labeler for photographs, with small networks in the real layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DPTForDepthEstimation

from datasets.errors import DatasetError
from datasets.labeler import Reader, Sources
from datasets.labelers.midas import LABELER
from datasets.labelers.midas.depth import PAPER_SCALE, DptDepth
from datasets.labelers.midas.saliency import OnnxSaliency
from datasets.labels import DisparityScale, Labels

SCALE = DisparityScale(0.1, 0.5)
SIDE = 24
DPT_SIDE = 32
Save = Callable[..., Path]


@pytest.fixture(scope="module")
def dpt(save_dpt: Save, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dpt(tmp_path_factory.mktemp("networks") / "dpt")


@pytest.fixture(scope="module")
def sources(dpt: Path, save_saliency: Save, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    mask = save_saliency(tmp_path_factory.mktemp("saliency") / "mask.onnx", SIDE)
    return Sources(depth_model=str(dpt), depth_scale=SCALE, saliency_model=mask, saliency_size=SIDE)


@pytest.fixture(scope="module")
def reader(sources: Sources) -> Reader:
    return LABELER.open(sources)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(0).random((5, 3, DPT_SIDE, DPT_SIDE), dtype=np.float32)
    )


def test_depth_is_the_networks_own_standardised(
    reader: Reader, dpt: Path, images: torch.Tensor
) -> None:
    """At the network's size nothing is resized: the reference is transformers on 8-bit images."""
    net = DPTForDepthEstimation.from_pretrained(dpt).eval()
    scaled = np.round(images.numpy() * 255).astype(np.uint8).astype(np.float64) / 127.5 - 1
    with torch.inference_mode():
        raw = net(torch.from_numpy(scaled.astype(np.float32))).predicted_depth
    assert raw.std() > 0
    torch.testing.assert_close(reader(images).disparity, (raw - SCALE.mean) / SCALE.std)


def test_a_larger_image_gets_labels_of_its_own_size(reader: Reader) -> None:
    ramp = torch.linspace(0, 1, 70).expand(1, 3, 50, 70)
    labels = reader(ramp)
    assert labels.disparity.shape == labels.saliency.shape == (1, 50, 70)
    assert bool(torch.isfinite(labels.disparity).all())


def test_the_mask_is_a_map_of_at_least_one_in_255(reader: Reader) -> None:
    """The rule in numpy, on flat images, where resizing changes nothing."""
    for red in (0, 20, 60, 100, 140, 200, 255):
        image = torch.zeros(1, 3, DPT_SIDE, DPT_SIDE)
        image[:, 0] = red / 255
        logit = 4.0 * (red / 255 - 0.485) / 0.229 - 2.0
        is_salient = bool(np.floor(255 / (1 + np.exp(-logit))) > 0)
        assert bool((reader(image).saliency == is_salient).all()), red
    mixed = torch.zeros(1, 3, DPT_SIDE, DPT_SIDE)
    mixed[..., : DPT_SIDE // 2] = 1
    share = float(reader(mixed).saliency.double().mean())
    assert 0.4 < share < 0.6


def test_the_batch_changes_no_bit(reader: Reader, images: torch.Tensor) -> None:
    together = reader(images)
    for index, image in enumerate(images.split(1)):
        same(reader(image), together.take([index]))


def test_the_fingerprint_names_every_choice(
    sources: Sources, reader: Reader, save_dpt: Save, save_saliency: Save, tmp_path: Path
) -> None:
    other_dpt = save_dpt(tmp_path / "dpt", seed=1)
    other_mask = save_saliency(tmp_path / "mask.onnx", SIDE, gain=5.0)
    small = save_saliency(tmp_path / "small.onnx", 16)

    def opened(**changed: object) -> str:
        return LABELER.open(replace(sources, **changed)).fingerprint

    assert opened() == reader.fingerprint
    changed = [
        opened(depth_model=str(other_dpt)),
        opened(depth_scale=DisparityScale(0.0, 1.0)),
        opened(saliency_model=other_mask),
        opened(saliency_model=small, saliency_size=16),
    ]
    assert len({reader.fingerprint, *changed}) == 5


def test_labels_are_remembered_by_the_images_bytes(
    sources: Sources,
    reader: Reader,
    images: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cached = LABELER.open(replace(sources, cache=tmp_path))
    assert cached.fingerprint == reader.fingerprint
    assert cached.scale == reader.scale
    first = cached(images)
    same(first, reader(images))

    def fail(*_: object) -> None:
        raise AssertionError("read twice")

    with monkeypatch.context() as patch:
        patch.setattr(DptDepth, "__call__", fail)
        same(cached(images.flip(0)), Labels(first.disparity.flip(0), first.saliency.flip(0)))
        with pytest.raises(AssertionError, match="read twice"):
            cached(1 - images[:1])
    damaged = sorted((tmp_path / "labels").rglob("*.labels"))
    assert len(damaged) == len(images)
    for file in damaged:
        stored = bytearray(file.read_bytes())
        stored[-5] ^= 1
        file.write_bytes(stored)
    same(cached(images), first)


def same(a: Labels, b: Labels) -> None:
    assert torch.equal(a.disparity, b.disparity)
    assert torch.equal(a.saliency, b.saliency)


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[min(name for name in weights if name.startswith("dpt."))]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = sorted(name for name in weights if name.startswith("head."))[0]
    weights[name] = weights[name] * float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def without_config(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    "damage", [without_weights, truncated, pickled, without_a_tensor, with_nan, without_config]
)
def test_a_damaged_depth_model_is_one_sentence(
    tmp_path: Path, save_dpt: Save, damage: object
) -> None:
    folder = save_dpt(tmp_path / "dpt")
    damage(folder)
    with pytest.raises(DatasetError) as caught:
        DptDepth(str(folder), SCALE)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_that_no_call_reaches_may_be_missing(
    tmp_path: Path, save_dpt: Save, dpt: Path, images: torch.Tensor
) -> None:
    """The published weights of DPT-Large lack it."""
    folder = save_dpt(tmp_path / "dpt")
    weights = load_file(folder / "model.safetensors")
    unused = "neck.fusion_stage.layers.0.residual_layer1."
    kept = {name: value for name, value in weights.items() if not name.startswith(unused)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    lacking, complete = DptDepth(str(folder), SCALE), DptDepth(str(dpt), SCALE)
    assert lacking.fingerprint == complete.fingerprint
    assert torch.equal(lacking(images[:1]), complete(images[:1]))


def test_a_depth_model_that_is_nowhere_is_one_sentence(sources: Sources) -> None:
    with pytest.raises(
        DatasetError, match="cannot fetch the depth model Intel/dpt-large"
    ) as caught:
        LABELER.open(Sources(saliency_model=sources.saliency_model, saliency_size=SIDE))
    assert "\n" not in str(caught.value)


def test_the_scale_of_another_model_is_not_guessed(dpt: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"are known of Intel/dpt-large only.*--depth-scale MEAN,STD"
    ):
        DptDepth(str(dpt), None)


def test_dpt_large_has_the_papers_scale(
    dpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The architecture decides, so that a local copy has it too."""
    net = DPTForDepthEstimation.from_pretrained(dpt)
    monkeypatch.setattr(net.config, "hidden_size", 1024)
    monkeypatch.setattr(net.config, "num_hidden_layers", 24)
    monkeypatch.setattr(
        "datasets.labelers.midas.depth._loaded", lambda _: (net, {"missing_keys": []})
    )
    assert DptDepth("copy", None).scale == PAPER_SCALE == DisparityScale(15.740597, 9.281932)


@pytest.mark.parametrize(
    ("make", "size", "sentence"),
    [
        (lambda path, _: path, SIDE, "cannot read the saliency model"),
        (lambda path, _: path.write_bytes(b"no network"), SIDE, "is not an ONNX network"),
        (lambda path, save: save(path, SIDE), SIDE + 8, "choose another --saliency-size"),
        (lambda path, save: save(path, SIDE, sigmoid=False), SIDE, "export it with its sigmoid"),
    ],
    ids=["missing", "garbage", "size", "logits"],
)
def test_a_wrong_saliency_model_is_one_sentence(
    tmp_path: Path, dpt: Path, save_saliency: Save, make: object, size: int, sentence: str
) -> None:
    path = tmp_path / "mask.onnx"
    make(path, save_saliency)
    with pytest.raises(DatasetError) as caught:
        LABELER.open(Sources(str(dpt), SCALE, path, size))
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_saliency_network_takes_torchs_threads_and_no_more(
    save_saliency: Save, tmp_path: Path
) -> None:
    path, before = save_saliency(tmp_path / "mask.onnx", SIDE), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        options = OnnxSaliency(path, SIDE).session.get_session_options()
    finally:
        torch.set_num_threads(before)
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_the_saliency_network_runs_on_the_card_of_its_process(
    save_saliency: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, requested = onnxruntime.InferenceSession, []

    def recorded(
        stored: bytes, options: onnxruntime.SessionOptions, providers: list[object]
    ) -> object:
        requested.append(providers)
        return opened(stored, options, providers=["CPUExecutionProvider"])

    path = save_saliency(tmp_path / "mask.onnx", SIDE)
    monkeypatch.setattr(onnxruntime, "InferenceSession", recorded)
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    for has_card in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_card=has_card: has_card)
        OnnxSaliency(path, SIDE)
    assert requested == [
        [("CUDAExecutionProvider", {"device_id": 2}), "CPUExecutionProvider"],
        ["CPUExecutionProvider"],
    ]


def test_without_a_saliency_model_it_says_what_to_export() -> None:
    with pytest.raises(DatasetError, match="--saliency-model"):
        LABELER.open()
