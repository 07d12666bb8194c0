"""The run folder: its options, its locks, and what it refuses."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bench.config import Config
from bench.errors import UserError
from bench.runs.folder import CONFIG, RUN, RunFolder, open_folder
from bench.study import Study, open_study


@pytest.fixture(scope="module")
def study(small_config: dict[str, object]) -> Study:
    return open_study(Config(**small_config))


def test_a_folder_keeps_the_options_that_made_it(study: Study, tmp_path: Path) -> None:
    open_folder(tmp_path / "run", study)
    before = (tmp_path / "run" / CONFIG).read_bytes()
    open_folder(tmp_path / "run", replace(study, config=replace(study.config, threads=2)))
    assert (tmp_path / "run" / CONFIG).read_bytes() == before


def test_another_size_of_shards_is_refused_until_the_run_is_finished(
    study: Study, tmp_path: Path
) -> None:
    other = replace(study, config=replace(study.config, shard=5))
    folder = open_folder(tmp_path / "run", study)
    with pytest.raises(UserError, match="was begun with --shard 8"):
        open_folder(tmp_path / "run", other)
    (folder.path / RUN).touch()
    assert open_folder(tmp_path / "run", other).finished


@pytest.mark.parametrize(
    ("name", "value"),
    [("version of torch", "0.0"), ("weights of the model", ["other"]), ("engine", "openvino")],
)
def test_what_differs_is_named_and_nothing_else(
    name: str, value: object, study: Study, tmp_path: Path
) -> None:
    open_folder(tmp_path / "run", study)
    config = replace(study.config, threads=2, shard=5, out="elsewhere")
    other = replace(study, config=config, facts={**study.facts, name: value})
    with pytest.raises(UserError, match=rf"it differs in: {name}\)"):
        open_folder(tmp_path / "run", other)


def test_a_task_that_was_changed_is_another_run(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_folder(tmp_path / "run", study)
    monkeypatch.setattr("bench.study.definition_of", lambda _, name: f"other {name}")
    name = study.config.tasks[0]
    with pytest.raises(UserError, match=f"before the code of the task {name} was changed"):
        open_folder(folder.path, study)
    # Folders of earlier versions do not say it.
    stored = json.loads((folder.path / CONFIG).read_text())
    del stored["tasks"]
    (folder.path / CONFIG).write_text(json.dumps(stored))
    assert open_folder(folder.path, study) == folder


def test_equal_runs_have_equal_fingerprints(study: Study) -> None:
    config = replace(
        study.config, guidance=study.spec.guidance, tasks=tuple(reversed(study.config.tasks))
    )
    assert open_study(config).fingerprint == study.fingerprint
    more = [
        open_study(replace(config, baselines=names)) for names in (("vae", "text"), ("text", "vae"))
    ]
    assert more[0].fingerprint == more[1].fingerprint != study.fingerprint


def test_a_folder_that_cannot_be_locked_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match="cannot write in"), RunFolder(tmp_path).locked():
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_finished_run_in_a_folder_that_cannot_be_written_is_opened(
    study: Study, tmp_path: Path
) -> None:
    folder = open_folder(tmp_path / "run", study)
    (folder.path / RUN).touch()
    folder.path.chmod(0o555)
    try:
        assert open_folder(folder.path, study).finished
    finally:
        folder.path.chmod(0o755)
