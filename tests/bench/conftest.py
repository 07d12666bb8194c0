"""One small but whole run of the shipped model, shared by every test that reads a run folder."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

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


def _observe(folder: Path) -> None:
    """Make the run in ``folder``; keep shards, and their size, before the run removes them."""
    kept = folder / "shards"
    kept.mkdir()

    def keep(shards: Shards) -> None:
        size = sum(path.stat().st_size for path in run_folder.rglob("*.safetensors"))
        (folder / "disk.json").write_text(json.dumps(size), encoding="utf-8")
        for path in run_folder.rglob("fold-*.safetensors"):
            shutil.copy(path, kept)
        remove(shards)

    run_folder, remove = folder / "small", Shards.remove
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shards, "remove", keep)
        run(Config(**SMALL, out=str(run_folder)))


@pytest.fixture(scope="session")
def observed_run(tmp_path_factory: pytest.TempPathFactory) -> ObservedRun:
    """The run, which the first process of a session makes, and of which each has its own copy."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Of all processes.
        shared = shared.parent
    with FileLock(shared / "observed.lock"):
        made = shared / "observed"
        if not made.is_dir():
            unfinished = tmp_path_factory.mktemp("unfinished")
            _observe(unfinished)
            unfinished.rename(made)
    folder = tmp_path_factory.mktemp("runs") / "observed"
    shutil.copytree(made, folder)
    return ObservedRun(
        read_results(folder / "small"),
        json.loads((folder / "disk.json").read_text(encoding="utf-8")),
        tuple(sorted((folder / "shards").iterdir())),
    )


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
