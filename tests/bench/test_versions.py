"""Files that another version of scenebench wrote: the advice fits the direction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.adam_vs_ridge.results import RECIPE, read_recipe
from bench.errors import UserError
from bench.interventions.records import SUMMARY, read_summary, task_folder
from bench.ledger.entries import read_entry
from bench.ledger.records import ENTRY
from bench.machine.records import FILE, read_machine
from bench.profiling.records import PROFILE, read_profile
from bench.runs.results import RUN, read_results

READERS: dict[str, tuple[Path, Callable[[Path], object], str]] = {
    "run": (Path(RUN), read_results, "schema"),
    "entry": (Path(ENTRY), read_entry, "schema"),
    "profile": (Path(PROFILE), read_profile, "schema"),
    "machine": (Path(FILE), lambda folder: read_machine(folder / FILE), "version"),
    "recipe": (Path(RECIPE), read_recipe, "schema"),
    "edits": (
        task_folder(Path(), "depth") / SUMMARY,
        lambda folder: read_summary(folder, "depth"),
        "schema",
    ),
}
"""Per kind of file, where it lies in a folder, what reads it, and the key of its version."""


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("later", [True, False], ids=["later", "earlier"])
def test_a_file_of_another_version_is_told_from_damage(
    kind: str, later: bool, tmp_path: Path
) -> None:
    file, read, key = READERS[kind]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    # The plan of an experiment raises an error of its own for a method that is not known here.
    other = {key: 99 if later else 0, "plan": {"methods": ["adam"]}}
    (tmp_path / file).write_text(json.dumps(other))
    if kind == "edits" and not later:
        assert read(tmp_path) is None
        return
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    sentence = str(caught.value)
    which = "a later version of scenebench wrote it, as schema 99" if later else "an earlier"
    assert f"{file.name}: {which}" in sentence
    assert "damaged" not in sentence
    assert sentence.endswith("update scenebench") is later
