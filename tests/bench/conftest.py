"""One small but whole run of the shipped model, shared by every test that reads a run folder."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.config import Config
from bench.run import run
from bench.runs.results import Results, read_results
from datasets import scenes
from extract.shards import Shards
from tests.browser import chromium

SMALL = {
    "limit": 50,
    "sampler_steps": 4,
    "layers": ("mid", "up2.1", "up3.0"),
    "threads": 1,
    "shard": 8,
}

DRAWN_ONCE = functools.cache(scenes.draw_scene)


@pytest.fixture(scope="module", autouse=True)
def drawn_scenes() -> Iterator[None]:
    """Draw the 617 scenes of the dataset once, not for every run that is opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "draw_scene", DRAWN_ONCE)
        yield


@pytest.fixture(scope="session")
def small_config() -> dict[str, object]:
    return dict(SMALL)


@dataclass(frozen=True)
class ObservedRun:
    """A run, and what it removed at its end."""

    results: Results
    disk_bytes: int
    """Of all tensors before the shards were removed."""
    shards: tuple[Path, ...]
    """Copies of the shards of the training images."""


@pytest.fixture(scope="session")
def observed_run(tmp_path_factory: pytest.TempPathFactory) -> ObservedRun:
    folder, kept = tmp_path_factory.mktemp("runs") / "small", tmp_path_factory.mktemp("shards")
    sizes: list[int] = []

    def keep(shards: Shards) -> None:
        sizes.append(sum(path.stat().st_size for path in folder.rglob("*.safetensors")))
        for path in folder.rglob("fold-*.safetensors"):
            shutil.copy(path, kept)
        remove(shards)

    remove = Shards.remove
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shards, "remove", keep)
        results = read_results(run(Config(**SMALL, out=str(folder))).path)
    return ObservedRun(results, sizes[0], tuple(sorted(kept.iterdir())))


@pytest.fixture(scope="session")
def small_run(observed_run: ObservedRun) -> Results:
    return observed_run.results


@pytest.fixture
def copied_run(small_run: Results, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_run.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, which is skipped where there is none."""
    with chromium() as driver:
        yield driver
