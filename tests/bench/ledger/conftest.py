"""The entry of a small run, and copies of it to change."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from bench.ledger.submit import submit
from bench.runs.results import Results
from bench.study import Study, open_study


@pytest.fixture(scope="session")
def entry(small_run: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submit(small_run, tmp_path_factory.mktemp("ledger"))


@pytest.fixture(scope="session")
def study(small_run: Results) -> Study:
    return open_study(small_run.config)


@pytest.fixture
def copied(entry: Path, tmp_path: Path) -> Path:
    return Path(copytree(entry, tmp_path / "entry"))
