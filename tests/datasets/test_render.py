"""Rendering a set of scenes to a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.label_cache import as_bytes
from datasets.render import CHUNK, rendered, scenes_of, write_set

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
