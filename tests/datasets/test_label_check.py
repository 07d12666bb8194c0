"""Faulty labels end in one sentence that names the labeler, the image and the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, nan

import pytest
import torch
from torch import Tensor

from bench.registry import plugin, plugins
from datasets.errors import DatasetError
from datasets.label_check import checked
from datasets.labeler import AS_SHIPPED, CheckedReader, Labeler, Reader, Sources
from datasets.labels import DisparityScale, Labels

N, SIDE = 3, 4
SCALE = DisparityScale(0.0, 1.0)


def good() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "disparity": torch.randn(N, SIDE, SIDE, generator=draw),
        "saliency": torch.rand(N, SIDE, SIDE, generator=draw) > 0.5,
        "normals": torch.randn(N, 3, SIDE, SIDE, generator=draw),
        "depth_m": torch.rand(N, SIDE, SIDE, generator=draw) + 1,
        "shadow": torch.rand(N, SIDE, SIDE, generator=draw) > 0.5,
        "color": torch.tensor([0, 1, 2]),
        "shape": torch.tensor([2, 1, 0]),
        "light": torch.tensor([1, 0, 1]),
    }


def labels_of(values: dict[str, object]) -> Labels:
    """Labels without the shape checks of the test run."""
    labels = object.__new__(Labels)
    for name in Labels.__slots__:
        object.__setattr__(labels, name, values.get(name))
    return labels


@dataclass(frozen=True)
class Fake:
    """Gives the same labels for all images."""

    values: dict[str, object]
    scale: DisparityScale = SCALE
    fingerprint: str = "fake"

    def __call__(self, images: Tensor) -> Labels:
        return labels_of(self.values)


def opened(values: dict[str, object]) -> Reader:
    def fake(_: Sources = AS_SHIPPED, /) -> Reader:
        return Fake(values)

    fake.__module__ = "datasets.labelers.fake.read"
    return Labeler(open=fake).open()


IMAGES = torch.zeros(N, 3, SIDE, SIDE)


def test_good_labels_pass_unchanged() -> None:
    values = good()
    reader = opened({**values})
    assert (reader.scale, reader.fingerprint) == (SCALE, "fake")
    for name, value in reader(IMAGES).tensors().items():
        assert value is values[name]
    few = {name: values[name] for name in ("disparity", "saliency")}
    assert opened({**few})(IMAGES).tensors().keys() == few.keys()


def put(value: float, row: int) -> Callable[[Tensor], Tensor]:
    def change(label: Tensor) -> Tensor:
        label = label.clone() if label.dtype == torch.long else label.float()
        label[row].view(-1)[-1] = value
        return label

    return change


FAULTS: list[tuple[str, Callable[[Tensor], object], str]] = [
    *(
        (name, put(value, row), f"{name} of image {row + 1} of 3 with NaN or infinite values")
        for name in ("disparity", "depth_m", "normals")
        for value in (nan, inf, -inf)
        for row in range(N)
    ),
    *(
        (name, put(value, row), f"{name} of image {row + 1} of 3 outside 0..1")
        for name in ("saliency", "shadow")
        for value in (nan, inf, -0.5, 1.5, 255.0)
        for row in (0, 2)
    ),
    *(
        (name, put(value, 1), f"{name} of image 2 of 3 outside 0..")
        for name in ("color", "shape", "light")
        for value in (-1, 99)
    ),
    ("saliency", lambda x: x.float(), "image 1 of 3 as float32, expected true or false"),
    ("color", lambda x: x.float(), "color of image 1 of 3 as torch.float32"),
    ("disparity", lambda x: x[:2], r"image 3 of 3 with the wrong shape: 2 x 4 x 4 in all"),
    ("disparity", lambda x: x[:, None], "image 1 of 3 with the wrong shape: 3 x 1 x 4 x 4"),
    ("saliency", lambda x: x[..., :3], "3 x 4 x 3 in all, expected 3 x 4 x 4"),
    ("normals", lambda x: x[:, :2], "3 x 2 x 4 x 4 in all, expected 3 x 3 x 4 x 4"),
    ("depth_m", lambda x: x[0, 0, 0], "wrong shape"),
    ("light", lambda x: x[:, None], "3 x 1 in all, expected 3;"),
    ("disparity", lambda x: x.numpy(), "disparity of image 1 of 3 as ndarray"),
    ("disparity", lambda x: None, r"gives no disparity"),
    ("saliency", lambda x: None, r"gives no saliency"),
]


@pytest.mark.parametrize(("name", "change", "words"), FAULTS)
def test_a_fault_is_one_sentence(name: str, change: Callable[[Tensor], object], words: str) -> None:
    values = good()
    reader = opened({**values, name: change(values[name])})
    with pytest.raises(DatasetError, match=words) as caught:
        reader(IMAGES)
    message = str(caught.value)
    assert message.startswith("the labeler fake gives ")
    assert "\n" not in message


def test_a_labeler_must_give_labels() -> None:
    with pytest.raises(DatasetError, match="the labeler fake gives a Tensor, expected datasets"):
        checked(torch.zeros(2), IMAGES, "fake")


def test_an_image_that_is_broken_itself_is_named() -> None:
    values, images = good(), IMAGES.clone()
    values["disparity"][1, 0, 0], images[1, 0, 0, 0] = nan, nan
    with pytest.raises(DatasetError, match=r"image 2 of 3 .*\(the image itself has some\)"):
        checked(labels_of({**values}), images, "fake")


@pytest.mark.parametrize(
    "name", [name for name in plugins("labeler") if not plugin("labeler", name).takes_networks]
)
def test_every_shipped_labeler_is_checked_under_its_name(name: str) -> None:
    reader = plugin("labeler", name).open()
    assert isinstance(reader, CheckedReader)
    assert reader.name == name
    reader(torch.rand(2, 3, 64, 64))
    broken = replace(reader, reader=Fake({**good(), "disparity": torch.full((N, SIDE, SIDE), nan)}))
    with pytest.raises(DatasetError, match=f"the labeler {name} gives disparity of image 1 of 3"):
        broken(IMAGES)
