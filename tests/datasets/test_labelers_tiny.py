from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from datasets.errors import DatasetError
from datasets.labeler import CheckedReader, Reader
from datasets.labelers.tiny import LABELER, SHA256, WEIGHTS
from datasets.labelers.tiny.network import WORDS
from datasets.labelers.tiny.read import TinyLabeler
from datasets.labels import Labels, concatenate, exact_labels
from datasets.raycast import Rendered
from datasets.render import rendered, scenes_of
from datasets.scenes import Scene


@pytest.fixture(scope="module")
def labeler() -> CheckedReader:
    return LABELER.open()


@pytest.fixture(scope="module")
def images(held_out: Rendered) -> torch.Tensor:
    return held_out.rgb[:128]


@pytest.fixture(scope="module")
def predictions(labeler: CheckedReader, images: torch.Tensor) -> Labels:
    return labeler(images)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))


@pytest.fixture(scope="module")
def all_held_out() -> Rendered:
    """The whole held-out set: rare low cameras err most, so a part has another mean."""
    parts = list(rendered(scenes_of("held-out")))
    names = [field.name for field in dataclasses.fields(Rendered) if field.name != "attributes"]
    words = tuple(attributes for part in parts for attributes in part.attributes)
    return Rendered(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
        attributes=words,
    )


def test_it_finds_the_salient_solid(predictions: Labels, held_out: Rendered) -> None:
    predicted, true = predictions.saliency.numpy(), held_out.mask[:128].numpy()
    dice = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(predicted, true, strict=True)]
    print(f"Dice: mean {np.mean(dice):.4f}, least {np.min(dice):.3f}")
    assert np.mean(dice) >= 0.93


def _disparity_rmse(labeler: CheckedReader, labels: Labels, images: Rendered) -> np.ndarray:
    """RMSE of every image, in standard deviations of the training images' disparity."""
    true = (1 / images.depth_m.numpy() - labeler.scale.mean) / labeler.scale.std
    squared = (labels.disparity.numpy() - true[: len(labels.disparity)]) ** 2
    rmse = np.sqrt(squared.mean((1, 2)))
    print(
        f"disparity RMSE in std: mean over images {rmse.mean():.3f}, median {np.median(rmse):.3f}, "
        f"over all pixels {np.sqrt(squared.mean()):.3f}"
    )
    return rmse


@pytest.mark.slow
def test_it_reads_inverse_depth(labeler: CheckedReader, all_held_out: Rendered) -> None:
    assert _disparity_rmse(labeler, labeler(all_held_out.rgb), all_held_out).mean() <= 0.25


def test_it_reads_inverse_depth_of_most_images(
    labeler: CheckedReader, predictions: Labels, held_out: Rendered
) -> None:
    """Low cameras, which err most, are rare and change no median."""
    assert np.median(_disparity_rmse(labeler, predictions, held_out)) <= 0.25


def test_it_reads_inverse_depth_up_to_scale_and_shift(
    predictions: Labels, held_out: Rendered
) -> None:
    true = 1 / held_out.depth_m[:128].double().flatten(1)
    predicted = predictions.disparity.double().flatten(1)
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(true, predicted, strict=True)]
    mean, least = np.mean(correlation), np.min(correlation)
    print(f"correlation of disparity with the truth: mean {mean:.4f}, least {least:.3f}")
    assert mean >= 0.98


def test_it_reads_normals_as_unit_vectors(predictions: Labels, held_out: Rendered) -> None:
    assert predictions.normals is not None
    lengths = predictions.normals.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    cosine = float((predictions.normals * held_out.normals[:128]).sum(1).mean())
    print(f"mean cosine with the true normals {cosine:.4f}")
    assert cosine >= 0.9


def test_it_reads_the_words(
    labeler: CheckedReader, images: torch.Tensor, held_out_scenes: list[Scene]
) -> None:
    right = dict.fromkeys(WORDS, 0)
    for start in range(0, 128, 8):
        words = labeler.reader.read(images[start : start + 8]).words
        for name, vocabulary in WORDS.items():
            for scene, index in zip(
                held_out_scenes[start : start + 8], words[name].argmax(1).tolist(), strict=True
            ):
                right[name] += vocabulary[index] == getattr(scene.attributes, name)
    print(
        "words read rightly: "
        + ", ".join(f"{name} {count / 128:.3f}" for name, count in right.items())
    )
    assert min(right.values()) / 128 >= 0.9


@pytest.mark.parametrize("batch", [1, 3, 8, 11])
def test_the_batch_changes_no_bit(
    labeler: CheckedReader, images: torch.Tensor, predictions: Labels, batch: int
) -> None:
    parts = [labeler(some) for some in images[:12].split(batch)]
    for apart, together in zip(_fields(concatenate(parts)), _fields(predictions), strict=True):
        assert torch.equal(apart, together[:12])


def test_the_neighbours_in_a_batch_change_no_bit(
    labeler: CheckedReader, images: torch.Tensor, predictions: Labels
) -> None:
    order = torch.from_numpy(np.random.default_rng(0).permutation(16))
    for permuted, together in zip(
        _fields(labeler(images[order])), _fields(predictions), strict=True
    ):
        assert torch.equal(permuted, together[order])


def _fields(labels: Labels) -> list[torch.Tensor]:
    assert labels.normals is not None
    return [labels.disparity, labels.saliency, labels.normals]


def test_exact_labels_have_its_units(labeler: CheckedReader, held_out: Rendered) -> None:
    exact = exact_labels(held_out, labeler.scale)
    assert abs(float(exact.disparity.mean())) < 0.15
    assert abs(float(exact.disparity.std()) - 1) < 0.15
    assert torch.equal(exact.saliency, held_out.mask)
    assert exact.normals is held_out.normals


def test_it_is_a_reader_with_a_name_for_its_weights(labeler: CheckedReader, folder: Path) -> None:
    assert isinstance(labeler, Reader)
    assert TinyLabeler(folder).fingerprint == labeler.fingerprint
    weights = load_file(folder / "labeler.safetensors")
    weights["maps.bias"] = weights["maps.bias"] + 0.01
    save_file(weights, folder / "labeler.safetensors")
    changed = TinyLabeler(folder).fingerprint
    assert changed != labeler.fingerprint
    (folder / "config.json").write_text(
        '{"disparity_mean": 0.5, "disparity_std": 0.2}', encoding="utf-8"
    )
    assert TinyLabeler(folder).fingerprint not in (changed, labeler.fingerprint)


def truncated(folder: Path) -> None:
    path = folder / "labeler.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def emptied(folder: Path) -> None:
    (folder / "labeler.safetensors").write_bytes(b"")


def garbled(folder: Path) -> None:
    path = folder / "labeler.safetensors"
    path.write_bytes(b"x" * len(path.read_bytes()))


def of_another_shape(folder: Path) -> None:
    weights = load_file(folder / "labeler.safetensors")
    weights["maps.bias"] = torch.zeros(7)
    save_file(weights, folder / "labeler.safetensors")


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "labeler.safetensors")
    del weights["maps.bias"]
    save_file(weights, folder / "labeler.safetensors")


def without_weights(folder: Path) -> None:
    (folder / "labeler.safetensors").unlink()


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_half_a_config(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"disparity_mean": 0.2}), encoding="utf-8")


def with_config_of_another_kind(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]", encoding="utf-8")


def with_words_for_numbers(folder: Path) -> None:
    (folder / "config.json").write_text(
        '{"disparity_mean": "a", "disparity_std": null}', encoding="utf-8"
    )


def with_no_config_text(folder: Path) -> None:
    (folder / "config.json").write_text("", encoding="utf-8")


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        emptied,
        garbled,
        of_another_shape,
        without_a_tensor,
        without_weights,
        without_config,
        with_half_a_config,
        with_config_of_another_kind,
        with_words_for_numbers,
        with_no_config_text,
    ],
)
def test_damage_is_refused_in_one_line_that_names_the_folder(folder: Path, damage: object) -> None:
    damage(folder)
    with pytest.raises(DatasetError) as caught:
        TinyLabeler(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message


def test_other_weights_than_the_shipped_ones_are_refused(folder: Path) -> None:
    assert TinyLabeler(folder, SHA256).fingerprint == LABELER.open().fingerprint
    weights = load_file(folder / "labeler.safetensors")
    weights["maps.bias"] = weights["maps.bias"] + 0.01
    save_file(weights, folder / "labeler.safetensors")
    with pytest.raises(DatasetError, match=r"labeler\.safetensors has the SHA-256"):
        TinyLabeler(folder, SHA256)


def test_a_missing_folder_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        TinyLabeler(tmp_path / "nowhere")


def test_labels_of_parts_join_in_order_and_lack_normals_if_one_part_does(
    predictions: Labels,
) -> None:
    first = Labels(predictions.disparity[:3], predictions.saliency[:3], predictions.normals[:3])
    second = Labels(predictions.disparity[3:5], predictions.saliency[3:5], predictions.normals[3:5])
    both = concatenate([first, second])
    assert torch.equal(both.disparity, predictions.disparity[:5])
    assert torch.equal(both.saliency, predictions.saliency[:5])
    assert torch.equal(both.normals, predictions.normals[:5])
    assert concatenate([first, Labels(second.disparity, second.saliency)]).normals is None


@pytest.mark.parametrize("side", [3, 30])
def test_images_that_cannot_be_halved_twice_are_refused(labeler: CheckedReader, side: int) -> None:
    with pytest.raises(DatasetError, match=f"multiples of 4, not {side} x 64 pixels"):
        labeler(torch.zeros(1, 3, side, 64))
