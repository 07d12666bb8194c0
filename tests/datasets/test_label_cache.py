"""Labels that are kept: every map comes back bit by bit, and a folder that cannot be written is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datasets.errors import DatasetError
from datasets.label_cache import CachedReader, as_bytes, bytes_of, labels_of
from datasets.labelers.tiny import LABELER
from datasets.labels import Labels
from datasets.raycast import Rendered


@pytest.mark.parametrize("size", [(8, 8), (5, 13)])
@pytest.mark.parametrize("with_normals", [True, False])
def test_labels_come_back_from_bytes_bit_by_bit(size: tuple[int, int], with_normals: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    disparity = torch.randn(2, *size, generator=generator)
    normals = torch.randn(2, 3, *size, generator=generator) if with_normals else None
    labels = Labels(disparity, torch.rand(2, *size, generator=generator) > 0.5, normals)
    back = labels_of(bytes_of(labels))
    assert torch.equal(back.disparity, labels.disparity)
    assert torch.equal(back.saliency, labels.saliency)
    assert back.saliency.dtype == torch.bool
    assert (back.normals is None) == (normals is None)
    if normals is not None:
        assert torch.equal(back.normals, normals)


def test_a_labeler_with_a_memory_answers_as_without(held_out: Rendered, tmp_path: Path) -> None:
    reader = LABELER.open()
    cached = CachedReader(reader, tmp_path)
    pictures = held_out.rgb[:3]
    truth = reader(as_bytes(pictures).float() / 255)
    for labels in (cached(pictures), cached(pictures)):
        for name in ("disparity", "saliency", "normals"):
            assert torch.equal(getattr(labels, name), getattr(truth, name))
    assert len(list(cached.folder.rglob("*.labels"))) == 3


def test_a_cache_that_cannot_be_written_is_named(held_out: Rendered, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a file where the folder should be")
    with pytest.raises(DatasetError, match=rf"cannot write {tmp_path}/labels"):
        CachedReader(LABELER.open(), tmp_path)(held_out.rgb[:1])
