"""The words that a denoiser reads are known before a prompt is embedded."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.load import load
from tests.small_transformers import PIPELINES, save


@pytest.mark.parametrize("kind", PIPELINES)
def test_words_of_transformers_are_those_of_an_embedded_prompt(kind: str, tmp_path: Path) -> None:
    parts = load(save(kind, tmp_path))
    assert parts.family.words(parts) == parts.embed(["a red cube"]).words


@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_words_of_unets_are_those_of_an_embedded_prompt(
    kind: str, small_models: dict[str, Path]
) -> None:
    parts = load(small_models[kind])
    assert parts.family.words(parts) == parts.embed(["a red cube"]).words
