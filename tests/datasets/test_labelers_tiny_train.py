"""The training data of the shipped labeler: kept only when it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from datasets.labelers.tiny import train


def test_data_that_was_cut_off_is_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "labelled.safetensors"

    def stop(_tensors: dict[str, Tensor], file: Path) -> None:
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "save_file", stop)
        with pytest.raises(KeyboardInterrupt):
            train.examples_of("train", 2, cache)
    assert not cache.exists()
    made = train.examples_of("train", 2, cache)
    assert [path.name for path in tmp_path.iterdir()] == [cache.name]
    monkeypatch.setattr(train, "rendered", lambda _scenes: pytest.fail("rendered again"))
    assert torch.equal(train.examples_of("train", 2, cache).rgb, made.rgb)
