"""What a model's configurations, tokenizers and settings say belongs to its identity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engines.identity import configuration_hashes
from engines.load import load
from engines.models.tiny import MODEL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL.source, tmp_path / "model"))


def test_a_loaded_model_is_itself_whatever_was_called_before(folder: Path) -> None:
    parts = load(MODEL.source)
    before = configuration_hashes(parts)
    parts.embed(["a red box on a sand floor"])
    assert configuration_hashes(parts) == before == configuration_hashes(load(folder))


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("vae/config.json", "scaling_factor", 0.9),
        ("unet/config.json", "norm_eps", 0.1),
        ("text_encoder/config.json", "hidden_act", "gelu"),
    ],
)
def test_another_value_with_the_same_weights_is_another_model(
    file: str, key: str, value: object, folder: Path
) -> None:
    stated = json.loads((folder / file).read_text())
    assert stated[key] != value
    (folder / file).write_text(json.dumps(stated | {key: value}))
    changed, own = configuration_hashes(load(folder)), configuration_hashes(load(MODEL.source))
    part = file.partition("/")[0]
    assert {name for name in own if own[name] != changed[name]} == {part}


def test_another_vocabulary_is_another_model(folder: Path) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    stated = json.loads(file.read_text())
    vocabulary = stated["model"]["vocab"]
    first, second = list(vocabulary)[:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(stated))
    changed, own = configuration_hashes(load(folder)), configuration_hashes(load(MODEL.source))
    assert {name for name in own if own[name] != changed[name]} == {"tokenizer"}
