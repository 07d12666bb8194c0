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


def test_what_is_taken_is_all_that_is_known_of_those_images(labels: Labels) -> None:
    taken = labels.take([2, 0, 2])
    for field in fields(Labels):
        whole, part = getattr(labels, field.name), getattr(taken, field.name)
        assert torch.equal(part, torch.stack([whole[2], whole[0], whole[2]]))


def test_what_is_not_known_is_not_known_of_a_part(labels: Labels) -> None:
    bare = Labels(labels.disparity, labels.saliency)
    assert bare.take(torch.tensor([1])).tensors().keys() == {"disparity", "saliency"}
