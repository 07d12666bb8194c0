"""Labels of some of the images."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from datasets.labels import DisparityScale, Labels, concatenate, exact_labels
from datasets.render import rendered, scenes_of


@pytest.fixture(scope="module")
def labels() -> Labels:
    scale = DisparityScale(0.4, 0.2)
    return concatenate([exact_labels(chunk, scale) for chunk in rendered(scenes_of("held-out", 3))])


def test_take_selects_every_label_of_the_images(labels: Labels) -> None:
    taken = labels.take([2, 0, 2])
    for field in fields(Labels):
        value = getattr(labels, field.name)
        expected = torch.stack([value[2], value[0], value[2]])
        assert torch.equal(getattr(taken, field.name), expected)


def test_take_leaves_missing_labels_missing(labels: Labels) -> None:
    bare = Labels(labels.disparity, labels.saliency)
    assert bare.take(torch.tensor([1])).tensors().keys() == {"disparity", "saliency"}
