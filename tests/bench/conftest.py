"""One small but whole run of the shipped model, shared by every test that reads a run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.config import Config
from bench.run import run
from bench.runs.results import Results, read_results

SMALL = {
    "limit": 50,
    "sampler_steps": 4,
    "layers": ("mid", "up2.1", "up3.0"),
    "threads": 1,
    "shard": 8,
}


@pytest.fixture(scope="session")
def small_config() -> dict[str, object]:
    return dict(SMALL)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("runs") / "small"
    return read_results(run(Config(**SMALL, out=str(folder))).path)


@pytest.fixture
def copied_run(small_run: Results, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(small_run.path, tmp_path / "run"))
