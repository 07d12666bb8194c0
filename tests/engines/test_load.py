from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.components import Components
from engines.errors import EngineError
from engines.load import load
from engines.models.tiny import MODEL

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL.source, tmp_path / "model"))


def refusal(source: str | Path) -> str:
    with pytest.raises(EngineError) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message
    assert ". " not in message
    assert len(message) < 500
    assert str(source) in message
    return message


@pytest.mark.parametrize("part", WEIGHTS)
def test_the_shipped_weights_are_loaded_unchanged_and_in_fp32(
    components: Components, part: str
) -> None:
    stored = load_file(Path(MODEL.source) / part / WEIGHTS[part])
    module = components.parts[part]
    loaded = module.state_dict()
    for name, value in stored.items():
        assert torch.equal(loaded[name], value.float())
    for parameter in module.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.device.type == "cpu"
        assert not parameter.requires_grad
    assert not module.training


def changed(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_models_of_other_kinds_are_refused(small_models: dict[str, Path], tmp_path: Path) -> None:
    def fresh(kind: str) -> Path:
        return Path(
            shutil.copytree(small_models[kind], tmp_path / f"{kind}{len(list(tmp_path.iterdir()))}")
        )

    lacking = fresh("sdxl")
    shutil.rmtree(lacking / "text_encoder_2")
    assert "text_encoder_2/ is missing" in refusal(lacking)
    single = fresh("sdxl")
    changed(single, "model_index.json", text_encoder_2=[None, None])
    assert "text_time" in refusal(single)
    double = fresh("sd2")
    for part in ("text_encoder_2", "tokenizer_2"):
        shutil.copytree(small_models["sdxl"] / part, double / part)
    changed(
        double, "model_index.json", text_encoder_2=["transformers", "CLIPTextModelWithProjection"]
    )
    assert "reads nothing besides the words" in refusal(double)
    to_zero = fresh("sd2")
    changed(to_zero, "scheduler/scheduler_config.json", rescale_betas_zero_snr=True)
    assert "signal-to-noise ratio of zero" in refusal(to_zero)
    shifted = fresh("sd2")
    changed(shifted, "vae/config.json", shift_factor=0.1)
    assert "shifts the latents" in refusal(shifted)


def test_unclear_errors_of_the_libraries_are_explained(
    small_models: dict[str, Path], tmp_path: Path
) -> None:
    reshaped = Path(shutil.copytree(small_models["sd2"], tmp_path / "reshaped"))
    weights = reshaped / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if name.endswith("final_layer_norm.bias"))
    save_file(tensors | {name: torch.zeros(3)}, weights, metadata={"format": "pt"})
    assert "final_layer_norm.bias of CLIPTextModel has another shape" in refusal(reshaped)
    timeless = Path(shutil.copytree(small_models["sd2"], tmp_path / "timeless"))
    changed(timeless, "scheduler/scheduler_config.json", num_train_timesteps="many")
    assert "its scheduler_config.json holds no noise schedule" in refusal(timeless)


def test_a_folder_without_model_index_is_refused(copy: Path) -> None:
    (copy / "model_index.json").unlink()
    assert "model_index.json" in refusal(copy)


@pytest.mark.parametrize("content", [b"{", b"[]", b"3", b"", b"\xff\xfe"])
def test_a_damaged_model_index_is_refused_by_name(copy: Path, content: bytes) -> None:
    (copy / "model_index.json").write_bytes(content)
    assert "model_index.json" in refusal(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_folder_without_one_of_its_parts_is_refused(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    assert part in refusal(copy)


@pytest.mark.parametrize(
    "file",
    [
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_folder_with_an_unreadable_configuration_is_refused(copy: Path, file: str) -> None:
    (copy / file).write_text("{", encoding="utf-8")
    refusal(copy)


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_truncated_weights_are_refused(copy: Path, part: str, share: float) -> None:
    file = copy / part / WEIGHTS[part]
    stored = file.read_bytes()
    file.write_bytes(stored[: int(len(stored) * share)])
    refusal(copy)


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(copy: Path, part: str, value: float) -> None:
    file = copy / part / WEIGHTS[part]
    weights = load_file(file)
    name = sorted(weights)[-1]
    weights[name].view(-1)[-1] = value
    save_file(weights, file)
    assert name in refusal(copy)


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_missing_weight_is_refused_and_not_drawn_at_random(copy: Path, part: str) -> None:
    file = copy / part / WEIGHTS[part]
    weights = load_file(file)
    del weights[sorted(weights)[-1]]
    save_file(weights, file)
    refusal(copy)


def test_pickled_weights_are_refused(copy: Path) -> None:
    file = copy / "unet" / WEIGHTS["unet"]
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    refusal(copy)


@pytest.mark.parametrize(
    "source",
    [
        "nowhere",
        "./nowhere",
        "/no/where",
        "a/b/c",
        Path("nowhere"),
        Path("owner/name"),
        "https://a.b/c",
    ],
)
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(source: str | Path) -> None:
    refusal(source)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    refusal(file)
    refusal(str(file))


def test_a_hub_id_that_cannot_be_fetched_is_refused() -> None:
    with pytest.raises(
        EngineError, match=r"cannot fetch nobody/nothing from the hub .*\); give a local"
    ):
        load("nobody/nothing")


def test_a_hub_id_is_fetched_without_pickles_and_loaded(
    monkeypatch: pytest.MonkeyPatch, components: Components
) -> None:
    asked: list[list[str]] = []

    def snapshot_download(
        source: str, *, allow_patterns: list[str], ignore_patterns: Sequence[str] = ()
    ) -> str:
        assert source == "owner/name"
        asked.append(allow_patterns)
        if asked[1:]:
            assert fnmatch("diffusion_pytorch_model.fp16.safetensors", ignore_patterns[0])
        return str(MODEL.source)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    fetched = load("owner/name")
    assert torch.equal(
        fetched.denoiser.module.conv_in.weight, components.denoiser.module.conv_in.weight
    )
    first, patterns = asked
    assert first == ["model_index.json"]
    # The record of the training is no part of the pipeline.
    parts = (file for file in Path(MODEL.source).rglob("*.*") if file.name != "training.json")
    for file in parts:
        assert any(fnmatch(str(file.relative_to(MODEL.source)), pattern) for pattern in patterns)
    for file in (
        "unet/diffusion_pytorch_model.bin",
        "model.ckpt",
        "unet/code.py",
        "safety_checker/model.safetensors",
    ):
        assert not any(fnmatch(file, pattern) for pattern in patterns)
