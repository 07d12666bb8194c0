"""Cached labels are bitwise equal, and a folder that cannot be written is named."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from datasets.errors import DatasetError
from datasets.label_cache import CachedReader, as_bytes, bytes_of, labels_of
from datasets.labelers.tiny import LABELER
from datasets.labels import Labels
from datasets.raycast import Rendered


@pytest.mark.parametrize("size", [(8, 8), (5, 13)])
@pytest.mark.parametrize(
    "fields", [("disparity", "saliency"), tuple(field.name for field in fields(Labels))]
)
def test_labels_come_back_bit_by_bit_from_bytes_and_from_another_device(
    size: tuple[int, int], fields: tuple[str, ...]
) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: torch.rand(2, *size, generator=generator) > 0.5 for name in ("saliency", "shadow")
    }
    maps = {name: torch.randn(2, *size, generator=generator) for name in ("disparity", "depth_m")}
    words = {
        name: torch.randint(3, (2,), generator=generator)
        for name in ("color", "shape", "light", "floor", "wall")
    }
    everything = {
        **masks,
        **maps,
        **words,
        "normals": torch.randn(2, 3, *size, generator=generator),
    }
    labels = Labels(**{name: everything[name] for name in fields})
    for restored in (labels_of(bytes_of(labels)), labels.to(torch.device("cpu"))):
        assert set(restored.tensors()) == set(fields)
        for name, value in restored.tensors().items():
            assert value.dtype == everything[name].dtype
            assert torch.equal(value, everything[name])


def test_the_cache_changes_no_label(held_out: Rendered, tmp_path: Path) -> None:
    reader = LABELER.open()
    cached = CachedReader(reader, tmp_path)
    images = held_out.rgb[:3]
    expected = reader(as_bytes(images).float() / 255)
    for labels in (cached(images), cached(images)):
        assert (
            set(labels.tensors()) == set(expected.tensors()) > {"disparity", "saliency", "normals"}
        )
        for name, value in expected.tensors().items():
            assert torch.equal(getattr(labels, name), value)
    assert len(list(cached.folder.rglob("*.labels"))) == 3


def test_a_cache_that_cannot_be_written_is_named(held_out: Rendered, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a file where the folder should be")
    with pytest.raises(DatasetError, match=rf"cannot write {tmp_path}/labels"):
        CachedReader(LABELER.open(), tmp_path)(held_out.rgb[:1])
