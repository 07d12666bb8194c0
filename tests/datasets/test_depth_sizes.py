"""The input size of a depth network, which its configuration holds in one of two places."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BeitConfig,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    Swinv2Config,
)

from datasets.errors import DatasetError
from datasets.labelers.midas.depth import DptDepth
from datasets.labels import DisparityScale

SCALE = DisparityScale(0.1, 0.5)
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "out_features": STAGES,
    "reshape_hidden_states": False,
}


def beit() -> DPTConfig:
    return _dpt(BeitConfig(image_size=64, patch_size=16, intermediate_size=32, **SMALL))


def dinov2() -> DPTConfig:
    return _dpt(Dinov2Config(image_size=56, patch_size=14, **SMALL), patch_size=14)


def wide_dinov2() -> DPTConfig:
    return _dpt(Dinov2Config(image_size=(56, 84), patch_size=14, **SMALL), patch_size=14)


def swinv2() -> DPTConfig:
    body = Swinv2Config(
        image_size=64,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_features=STAGES,
    )
    return _dpt(body, hidden_size=8, neck_hidden_sizes=[8, 16, 32, 64])


def _dpt(body: Any, **changes: Any) -> DPTConfig:
    facts: dict[str, Any] = {
        "backbone_config": body,
        "backbone_out_indices": None,
        "hidden_size": 16,
        "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8,
        "reassemble_factors": [4, 2, 1, 0.5],
        "use_bias_in_fusion_residual": True,
    }
    return DPTConfig(**(facts | changes))


def save(folder: Path, config: DPTConfig, **changes: object) -> Path:
    """Save a random network; ``changes`` are made in the stored file, ``"absent"`` removes a key.

    A change named ``body`` is of the ``backbone_config``'s image size.
    """
    torch.manual_seed(0)
    DPTForDepthEstimation(config).save_pretrained(folder)
    file = folder / "config.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    for name, value in changes.items():
        holder = stored["backbone_config"] if name == "body" else stored
        key = "image_size" if name == "body" else name
        holder[key] = value
        if value == "absent":
            del holder[key]
    file.write_text(json.dumps(stored), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("config", "changes", "size"),
    [
        (beit, {}, (64, 64)),
        (beit, {"image_size": None}, (64, 64)),
        (beit, {"image_size": "absent"}, (64, 64)),
        (beit, {"body": [64, 64]}, (64, 64)),
        (beit, {"body": "absent", "image_size": 96}, (96, 96)),
        (dinov2, {"image_size": "absent"}, (56, 56)),
        (dinov2, {"image_size": 384}, (56, 56)),
        (beit, {"body": [64, 96]}, (64, 96)),
        (swinv2, {"image_size": None}, (64, 64)),
    ],
)
def test_the_size_is_the_one_of_the_body_that_reads_the_image(
    config: Callable[[], DPTConfig],
    changes: dict[str, object],
    size: tuple[int, int],
    tmp_path: Path,
) -> None:
    depth = DptDepth(str(save(tmp_path / "dpt", config(), **changes)), SCALE)
    assert depth.size == size
    shown = str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
    assert depth.fingerprint.endswith(f"-{shown}-{depth.device.type}".replace("cuda", "cuda-fp32"))
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        raw = depth.net(((image - 0.5) / 0.5).to(depth.device)).predicted_depth.cpu()
    if raw.shape == (1, *size):
        torch.testing.assert_close(depth(image), raw)
    assert depth(torch.rand(1, 3, 40, 50)).shape == (1, 40, 50)


@pytest.mark.parametrize(
    ("config", "changes", "sentence"),
    [
        (beit, {"body": None, "image_size": None}, "has no image_size"),
        (beit, {"body": "absent", "image_size": "absent"}, "has no image_size"),
        (dinov2, {"body": "absent", "image_size": None}, "has no image_size"),
        (beit, {"body": "64"}, "'64'"),
        (beit, {"body": [64, 64, 64]}, "[64, 64, 64]"),
        (wide_dinov2, {}, "an image of 56 x 84 pixels into depth"),
        (beit, {"body": 0}, "image_size 0"),
        (beit, {"body": 8}, "8 x 8"),
        (dinov2, {"body": 84}, "1 x 17 x 16 and 1 x 37 x 16"),
    ],
)
def test_a_size_that_cannot_be_known_is_one_sentence(
    config: Callable[[], DPTConfig], changes: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    refused(save(tmp_path / "dpt", config(), **changes), sentence)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_size": "absent"}, "has no image_size"),
        ({"image_size": None}, "has no image_size"),
        ({"image_size": [32, 64]}, "32 x 64"),
    ],
)
def test_a_plain_network_is_not_given_the_librarys_size(
    changes: dict[str, object], sentence: str, save_dpt: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save_dpt(tmp_path / "plain")
    config = DPTConfig.from_pretrained(folder)
    if isinstance(changes["image_size"], list):
        config.image_size = changes["image_size"]
    refused(save(tmp_path / "dpt", config, **changes), sentence)


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(DatasetError) as caught:
        DptDepth(str(folder), SCALE)
    assert sentence in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_body_of_its_own_has_not_the_scale_of_dpt_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "dpt", dinov2())
    net = DPTForDepthEstimation.from_pretrained(folder)
    monkeypatch.setattr(net.config, "hidden_size", 1024)
    monkeypatch.setattr(net.config, "num_hidden_layers", 24)
    monkeypatch.setattr(
        "datasets.labelers.midas.depth._loaded", lambda _: (net, {"missing_keys": []})
    )
    with pytest.raises(DatasetError, match="are known of Intel/dpt-large only"):
        DptDepth(str(folder), None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "segformer"}, "its model_type is segformer, where dpt is supported"),
        ({"num_hidden_layers": 10**29}, "num_hidden_layers is 1000"),
        ({"num_hidden_layers": 257}, "num_hidden_layers is 257, where at most 256"),
        ({"backbone_config": {"model_type": "beit", "hidden_size": 10**29}}, "hidden_size is 1000"),
    ],
)
def test_another_kind_and_absurd_sizes_are_named(
    tmp_path: Path, save_dpt: Callable[..., Path], changes: dict[str, object], named: str
) -> None:
    config = save_dpt(tmp_path / "dpt") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(DatasetError, match=named):
        DptDepth(str(config.parent), SCALE)
