"""Configurations of published models: supported, of published sizes, and drawn without files."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from engines import random_weights
from engines.errors import EngineError
from engines.models.tiny import MODEL as TINY
from engines.random_weights import architecture_of, random_components
from tests.small_transformers import PIPELINES, save

FOLDER = Path(__file__).parents[2] / "engines" / "models" / "architectures"
WORDS = Path(TINY.source) / "tokenizer"

BILLIONS = {
    "flux_dev": 11.90,
    "flux_schnell": 11.89,
    "sd3_medium": 2.03,
    "sd35_large": 8.06,
    "sd35_medium": 2.24,
    "pixart_alpha": 0.61,
    "pixart_sigma": 0.61,
    "sana": 1.60,
    "sd_v1": 0.86,
}
"""Parameters of the denoisers, as their authors say."""
LENGTHS = {
    "flux_dev": 512,
    "flux_schnell": 512,
    "sd3_medium": 77 + 256,
    "sd35_large": 77 + 256,
    "sd35_medium": 77 + 256,
    "pixart_alpha": 120,
    "pixart_sigma": 300,
    "sana": 300,
    "sd_v1": 77,
}


def test_every_architecture_belongs_to_a_model() -> None:
    used = {import_module(f"engines.models.{name}").MODEL.architecture for name in BILLIONS}
    assert used == {path for path in FOLDER.iterdir() if path.is_dir()}


@pytest.mark.parametrize("name", BILLIONS)
def test_an_architecture_has_the_published_size_and_needs_no_memory(name: str) -> None:
    spec = import_module(f"engines.models.{name}").MODEL
    assert architecture_of(spec.source) == spec.architecture
    parts = random_components(str(spec.source), WORDS, drawn=False)
    denoiser = parts.denoiser.module
    assert {weight.device.type for part in parts.networks.values() for weight in part.parameters()}
    assert all(weight.is_meta for part in parts.networks.values() for weight in part.parameters())
    count = sum(weight.numel() for weight in denoiser.parameters())
    assert count / 1e9 == pytest.approx(BILLIONS[name], rel=0.01)
    assert parts.image_size == ((512, 512) if name == "sd_v1" else (1024, 1024))
    assert parts.family.words(parts) == LENGTHS[name]
    assert len(parts.taps()) == len({tap.layer for tap in parts.taps()}) > 10


def test_the_folders_hold_configurations_alone() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".md"]
    assert {path.name for path in files} == {
        "model_index.json",
        "scheduler_config.json",
        "config.json",
    }
    for path in files:
        assert isinstance(json.loads(path.read_text(encoding="utf-8")), dict)


def test_an_unknown_hub_id_has_no_architecture() -> None:
    with pytest.raises(EngineError, match="not known without its files"):
        random_components("someone/else", WORDS)


@pytest.mark.parametrize("kind", PIPELINES)
def test_an_architecture_is_drawn_with_stand_ins_for_its_tokenizers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(kind, tmp_path / "model")
    for path in folder.glob("tokenizer*"):
        shutil.rmtree(path)
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    monkeypatch.setattr(random_weights, "architecture_of", lambda _: folder)
    parts = random_components("someone/else", WORDS)
    one, two = parts.embed(["a red cube"]), parts.embed(["a blue sphere"])
    assert one.words == parts.family.words(parts)
    assert one != two
    assert not list(folder.glob("tokenizer*"))
