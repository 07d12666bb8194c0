"""Rendering a set of scenes to a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DatasetError
from datasets.label_cache import as_bytes
from datasets.render import CHUNK, LABELS, main, rendered, scenes_of, write_set

LIMIT = 2 * CHUNK + 3


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few scenes, rendered by one process."""
    folder = tmp_path_factory.mktemp("rendered") / "one"
    write_set("held-out", folder, LIMIT)
    return folder


def test_a_folder_holds_the_images_and_prompts_of_its_scenes(folder: Path) -> None:
    scenes = scenes_of("held-out", LIMIT)
    images = np.concatenate([as_bytes(chunk.rgb).numpy() for chunk in rendered(scenes)])
    assert np.array_equal(np.load(folder / "rgb.npy"), images)
    prompts = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
    assert prompts == [scene.attributes.prompt for scene in scenes]


def test_the_number_of_processes_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    write_set("held-out", tmp_path / "two", LIMIT, processes=2)
    assert contents(tmp_path / "two") == contents(folder)


def test_a_finished_folder_is_not_rendered_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr("datasets.render.render", fail)
    before = contents(folder)
    write_set("held-out", folder, LIMIT)
    assert contents(folder) == before


def test_labels_are_exact_and_come_with_the_same_images(folder: Path, tmp_path: Path) -> None:
    write_set("held-out", tmp_path / "labelled", LIMIT, processes=2, labels=True)
    chunks = list(rendered(scenes_of("held-out", LIMIT)))
    masks = np.load(tmp_path / "labelled" / "mask.npy")
    assert np.array_equal(masks, np.concatenate([chunk.mask.numpy() for chunk in chunks]))
    inverse_depth = np.load(tmp_path / "labelled" / "inverse_depth.npy")
    exact = np.concatenate([1 / chunk.depth_m.numpy() for chunk in chunks])
    np.testing.assert_allclose(inverse_depth, exact, rtol=1e-3)
    files = contents(tmp_path / "labelled")
    assert {name: files[name] for name in files.keys() - set(LABELS)} == contents(folder)


def test_a_finished_folder_gets_only_the_labels_that_it_lacks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = shutil.copytree(folder, tmp_path / "rendered")
    (target / "rgb.npy").write_bytes(b"not to be written again")
    write_set("held-out", target, LIMIT, labels=True)
    assert {path.name for path in target.iterdir()} == {"rgb.npy", "prompts.txt", *LABELS}
    assert (target / "rgb.npy").read_bytes() == b"not to be written again"
    whole = contents(target)
    (target / "mask.npy").unlink()

    def fail(_scenes: object, files: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("datasets.render._arrays_of", fail)
        with pytest.raises(OSError, match="disk full"):
            write_set("held-out", target, LIMIT, labels=True)
    assert contents(target).keys() == whole.keys() - {"mask.npy"}
    write_set("held-out", target, LIMIT, labels=True)
    assert contents(target) == whole


@pytest.mark.parametrize("limit", [LIMIT - 1, LIMIT + 1, None])
@pytest.mark.parametrize("labels", [False, True])
def test_another_number_of_scenes_is_refused(folder: Path, limit: int | None, labels: bool) -> None:
    before = contents(folder)
    with pytest.raises(DatasetError, match=f"holds {LIMIT} scenes, not {limit or 1024}"):
        write_set("held-out", folder, limit, labels=labels)
    assert contents(folder) == before


def test_another_set_is_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="other scenes than those of the set train"):
        write_set("train", folder, LIMIT, labels=True)


def test_labels_that_were_left_without_images_are_written_again(tmp_path: Path) -> None:
    write_set("held-out", tmp_path, 4, labels=True)
    (tmp_path / "prompts.txt").unlink()
    write_set("held-out", tmp_path, 3)
    write_set("held-out", tmp_path, 3, labels=True)
    assert {len(np.load(file)) for file in tmp_path.glob("*.npy")} == {3}


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_without_scenes_ends_with_a_sentence(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["render", "--out", str(out), f"--limit={limit}"])
    monkeypatch.setattr("torch.set_num_threads", lambda _count: None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    sentence = f"python -m datasets.render: --limit {limit} renders no scene; give at least 1\n"
    assert capsys.readouterr().err == sentence
    assert not out.exists()
