"""The contract of every file in ``datasets/labelers`` that opens without networks of the user's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bench.registry import plugin, plugins
from datasets.labeler import Labeler, Reader
from datasets.raycast import render
from datasets.scenes import draw_scene

NAMES = [name for name in plugins("labeler") if not plugin("labeler", name).takes_networks]


@pytest.fixture(scope="module", params=NAMES)
def reader(request: pytest.FixtureRequest) -> Reader:
    labeler: Labeler = plugin("labeler", request.param)
    return labeler.open()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return render([draw_scene(3, index) for index in range(4)], 64).rgb


def test_there_are_labelers_to_test() -> None:
    assert {"tiny", "brightness"} <= set(NAMES)


def test_maps_have_the_resolution_of_the_images(reader: Reader, images: Tensor) -> None:
    for name, label in reader(images).tensors().items():
        assert len(label) == len(images), name
        assert label.ndim == 1 or label.shape[-2:] == images.shape[-2:], name
        assert torch.isfinite(label.double()).all(), name
        assert label.device.type == "cpu", name


def test_labels_differ_between_images(reader: Reader, images: Tensor) -> None:
    labels = reader(images)
    assert not torch.equal(labels.disparity[0], labels.disparity[1])
    assert labels.saliency.any()
    assert not labels.saliency.all()


def test_labels_of_an_image_do_not_depend_on_the_others(reader: Reader, images: Tensor) -> None:
    together = reader(images).tensors()
    for row in range(len(images)):
        for name, label in reader(images[row : row + 1]).tensors().items():
            assert torch.allclose(
                label.double(), together[name][row : row + 1].double(), atol=1e-4
            ), name


def test_equal_images_have_equal_labels_and_are_left_as_they_are(
    reader: Reader, images: Tensor
) -> None:
    before = images.clone()
    first, second = reader(images).tensors(), reader(images).tensors()
    assert torch.equal(images, before)
    assert first.keys() == second.keys()
    assert all(torch.equal(label, second[name]) for name, label in first.items())


def test_a_reader_says_what_it_is(reader: Reader) -> None:
    assert reader.fingerprint
    assert math.isfinite(reader.scale.mean)
    assert reader.scale.std > 0
