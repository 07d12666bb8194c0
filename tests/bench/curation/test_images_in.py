"""Images and prompts of others that a command of ``dataset`` would read wrongly are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from bench.__main__ import main
from bench.curation.make import images_in
from datasets.errors import DatasetError


def of_16_bits(path: Path) -> None:
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(path)


def cut(path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(path)
    path.write_bytes(path.read_bytes()[:60])


def huge(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path)
    content = path.read_bytes()
    size = (60_000).to_bytes(4, "big") * 2
    head = b"IHDR" + size + content[24:29]
    path.write_bytes(content[:12] + head + crc32(head).to_bytes(4, "big") + content[33:])


@pytest.mark.parametrize(
    ("make", "named"),
    [(of_16_bits, "more than 8 bits"), (cut, "is not an image"), (huge, "is not an image")],
)
def test_an_image_that_would_be_read_wrongly_is_named(
    make: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=named) as caught:
        images_in(tmp_path)
    assert str(tmp_path / "a.png") in str(caught.value)


def test_a_file_that_is_no_file_of_prompts_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "audit", "--dataset", "folder/p.jsonl"]) == 2
    assert "folder/p.jsonl is no file of prompts: its name does not end" in capsys.readouterr().err
