"""Weight files: variants in half precision, what is missing, and libraries' errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.errors import EngineError
from engines.load import load
from engines.validate import advice, quoted

NETWORKS = ("unet", "vae", "text_encoder")


@pytest.fixture
def copy(small_models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_models["sd2"], tmp_path / "model"))


def weights_of(folder: Path, part: str) -> Path:
    (file,) = (folder / part).glob("*.safetensors")
    return file


def to_variant(file: Path, variant: str, dtype: torch.dtype = torch.float16) -> None:
    """Keep the weights under the variant's name alone."""
    half = {name: value.to(dtype) for name, value in load_file(file).items()}
    save_file(half, file.with_name(f"{file.stem}.{variant}.safetensors"), {"format": "pt"})
    file.unlink()


def to_shards(file: Path, variant: str) -> None:
    """Keep the weights in two files of a variant, as the libraries write large ones."""
    stored = load_file(file)
    names = sorted(stored)
    halves = {1: names[::2], 2: names[1::2]}
    index: dict[str, str] = {}
    for number, chosen in halves.items():
        shard = f"{file.stem}.{variant}-0000{number}-of-00002.safetensors"
        save_file({n: stored[n].half() for n in chosen}, file.with_name(shard), {"format": "pt"})
        index |= dict.fromkeys(chosen, shard)
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": index})
    file.with_name(f"{file.stem}.safetensors.index.{variant}.json").write_text(text)
    file.unlink()


@pytest.mark.parametrize(
    ("parts", "variant"),
    [
        (NETWORKS, "fp16"),
        (("unet",), "fp16"),
        (("vae", "text_encoder"), "fp16"),
        (NETWORKS, "bf16"),
    ],
)
def test_weights_that_are_there_in_half_precision_alone_are_loaded(
    copy: Path, parts: tuple[str, ...], variant: str
) -> None:
    dtype = torch.float16 if variant == "fp16" else torch.bfloat16
    plain = load(copy)
    for part in parts:
        to_variant(weights_of(copy, part), variant, dtype)
    for part, module in load(copy).networks.items():
        for name, value in module.state_dict().items():
            whole = plain.networks[part].state_dict()[name]
            if value.is_floating_point():
                assert value.dtype == torch.float32
                assert torch.equal(value, whole.to(dtype).float() if part in parts else whole)


def test_sharded_weights_in_half_precision_are_loaded(copy: Path) -> None:
    whole = load(copy).denoiser.module.conv_in.weight
    to_shards(weights_of(copy, "unet"), "fp16")
    assert torch.equal(load(copy).denoiser.module.conv_in.weight, whole.half().float())


def test_plain_weights_are_preferred(copy: Path) -> None:
    whole, file = load(copy).denoiser.module.conv_in.weight, weights_of(copy, "unet")
    plain = file.read_bytes()
    to_variant(file, "fp16")
    file.write_bytes(plain)
    assert torch.equal(load(copy).denoiser.module.conv_in.weight, whole)


@pytest.mark.parametrize("parts", [NETWORKS, ("unet",), ()])
def test_half_precision_is_fetched_from_the_hub_where_there_is_nothing_else(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...]
) -> None:
    """A stand-in for the hub copies what the patterns ask for."""
    for part in NETWORKS:
        file = weights_of(copy, part)
        plain = file.read_bytes()
        to_variant(file, "fp16")
        if part not in parts:
            file.write_bytes(plain)
    fetched = tmp_path / "fetched"

    def snapshot_download(
        _: str, *, allow_patterns: list[str], ignore_patterns: Sequence[str] = ()
    ) -> str:
        for path in copy.rglob("*.*"):
            name = str(path.relative_to(copy))
            wanted = any(fnmatch(name, pattern) for pattern in allow_patterns)
            if wanted and not any(fnmatch(name, pattern) for pattern in ignore_patterns):
                (fetched / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, fetched / name)
        return str(fetched)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    load("owner/name")
    halves = {path.parent.name for path in fetched.rglob("*.fp16.safetensors")}
    assert halves == set(parts)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "flax_model.msgpack"])
def test_weights_of_another_format_are_not_called_damaged(copy: Path, name: str) -> None:
    file = weights_of(copy, "unet")
    file.rename(file.with_name(name))
    with pytest.raises(EngineError) as caught:
        load(copy)
    assert f"no weights as safetensors but {name}; save the model" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "sentence", "what"),
    [
        (
            RuntimeError("Error(s) in loading state_dict for UNet:\n\tsize mismatch for a.b"),
            "Error(s) in loading state_dict for UNet: size mismatch for a.b",
            "fetch or export it again",
        ),
        (
            ImportError("T5 requires sentencepiece.\nRun pip install sentencepiece."),
            "T5 requires sentencepiece; Run pip install sentencepiece",
            "install what it names",
        ),
        (MemoryError(), "MemoryError", "free memory, or use a machine with more"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes."),
            "DefaultCPUAllocator: can't allocate memory: you tried 9 bytes",
            "free memory, or use a machine with more",
        ),
        (PermissionError(13, "denied"), "[Errno 13] denied", "make its files readable"),
    ],
)
def test_errors_of_libraries_are_quoted_whole_with_advice_of_their_kind(
    error: Exception, sentence: str, what: str
) -> None:
    assert quoted(error) == sentence
    assert advice(error) == what


def test_parts_that_do_not_work_together_are_not_called_damaged(copy: Path) -> None:
    words = copy / "tokenizer" / "tokenizer_config.json"
    words.write_text(json.dumps(json.loads(words.read_text()) | {"model_max_length": 77}))
    with pytest.raises(EngineError, match="gives 77 words where 24 are read") as caught:
        load(copy)
    assert "again" not in str(caught.value)
