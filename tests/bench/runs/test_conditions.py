"""Runs that are not comparable are refused or marked, with both values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.runs.conditions import differences
from bench.runs.results import Results, read_results


def changed(folder: Path, **conditions: str) -> Path:
    """Store other conditions in a run's ``run.json``."""
    record = json.loads((folder / "run.json").read_text())
    for name, value in conditions.items():
        record["conditions"][name.replace("_", " ")] = value
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_a_run_keeps_its_conditions(small_run: Results) -> None:
    conditions = small_run.record.conditions
    assert conditions["labeler"] == "tiny"
    assert str(conditions["weights of the labeler"]).startswith("tiny-")
    assert conditions["sampler"] == "LMSDiscreteScheduler"
    assert conditions["sampler_steps"] == small_run.config.sampler_steps
    assert conditions["precision"] == "fp32"
    assert conditions["dataset"] == "scenes617"
    assert str(conditions["test items"]).startswith(f"{len(small_run.record.test_items)} (hash ")
    assert differences([small_run, small_run]) == {}


@pytest.mark.parametrize(
    ("condition", "value", "is_refused"),
    [
        ("labeler", "midas", True),
        ("weights_of_the_labeler", "other", True),
        ("source", "rendered", True),
        ("test_items", "30 (hash 00000000)", True),
        ("sampler", "Euler", False),
        ("precision", "fp16", False),
        ("guidance", "9.0", False),
        ("training_items", "20 (hash 00000000)", False),
    ],
)
def test_unlike_runs_are_refused_or_marked_with_both_values(
    condition: str,
    value: str,
    is_refused: bool,
    small_run: Results,
    copied_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = condition.replace("_", " ")
    ours = str(small_run.record.conditions[name])
    other = changed(copied_run, **{condition: value})
    code = main(["compare", str(small_run.path), str(other)])
    captured = capsys.readouterr()
    assert code == (2 if is_refused else 0)
    said = captured.err if is_refused else captured.out
    assert name in said
    assert ours in said
    assert value in said
    assert "Traceback" not in said
    assert main(["leaderboard", str(small_run.path), str(other)]) == 0
    out = capsys.readouterr().out
    assert "unlike the first in" in out
    weight = "not comparable" if is_refused else "the runs differ"
    (line,) = [line for line in out.splitlines() if line.startswith(f"{weight} in {name}: ")]
    assert ours in line
    assert value in line


def test_a_copy_of_the_dataset_under_another_name_is_the_same(
    small_run: Results, copied_run: Path
) -> None:
    other = read_results(changed(copied_run, dataset="copy.csv"))
    assert differences([small_run, other]) == {}


def test_a_run_of_an_earlier_version_is_compared_as_far_as_it_is_known(
    small_run: Results, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((copied_run / "run.json").read_text())
    del record["conditions"]
    (copied_run / "run.json").write_text(json.dumps(record))
    config = json.loads((copied_run / "config.json").read_text())
    del config["overlap"]
    (copied_run / "config.json").write_text(json.dumps(config))
    assert differences([small_run, read_results(copied_run)]) == {}
    config["facts"]["labeler"] = "midas"
    (copied_run / "config.json").write_text(json.dumps(config))
    assert main(["compare", str(small_run.path), str(copied_run)]) == 2
    assert "the labelers differ (labeler)" in capsys.readouterr().err
