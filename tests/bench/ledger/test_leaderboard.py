"""The leaderboard of a ledger: ties, rows kept apart, files, and bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from bench.__main__ import main
from bench.ledger.board import Board
from bench.ledger.entries import read_arrays, read_ledger, write_arrays
from bench.ledger.html import opening
from bench.ledger.leaderboard import explained, leaderboard
from tests.bench.ledger.synthetic import write_entry


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two models that are alike, and one that is better in both tasks; depth is an error."""
    write_entry(tmp_path, "alike", 0.6, 0.5, seed=1)
    write_entry(tmp_path, "best", 0.7, 0.4, seed=2)
    write_entry(tmp_path, "other", 0.6, 0.5, seed=3)
    return tmp_path


def letters_of(board: Board, task: str, group: int = 0) -> dict[str, str]:
    return {entry.model: entry.tasks[task].letters for entry in board.groups[group].entries}


@pytest.mark.parametrize("task", ["saliency", "depth"])
def test_entries_that_do_not_differ_are_tied(ledger: Path, task: str) -> None:
    board = leaderboard(read_ledger(ledger))
    assert letters_of(board, task) == {"best": "a", "alike": "b", "other": "b"}
    (group,) = board.groups
    assert len(group.pairs) == 6
    assert {pair.items for pair in group.pairs} == {60}
    assert group.tied[task] == ((1,), (0, 2))


def test_the_files_go_into_another_folder_which_is_made(ledger: Path, tmp_path: Path) -> None:
    out = tmp_path / "boards" / "new"
    assert main(["leaderboard", str(ledger), "--out", str(out)]) == 0
    names = {"leaderboard.json", "leaderboard.md", "leaderboard.html"}
    assert {path.name for path in out.iterdir()} == names
    assert not names & {path.name for path in ledger.iterdir()}


def test_a_copied_entry_is_refused(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copytree(ledger / "best", ledger / "copy of best")
    assert main(["leaderboard", str(ledger)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "are entries of the same run; delete one of them" in line


def test_entries_are_paired_over_the_items_that_both_have(tmp_path: Path) -> None:
    write_entry(tmp_path, "whole", 0.6, seed=1)
    write_entry(tmp_path, "half", 0.6, seed=2, items=range(20, 60))
    (group,) = leaderboard(read_ledger(tmp_path)).groups
    assert [pair.items for pair in group.pairs] == [40]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "paper617"}, "dataset paper617 instead of scenes617"),
        ({"labeler": "midas"}, "labeler midas instead of tiny"),
        ({"sampler": "Euler"}, "sampler Euler instead of LMSDiscreteScheduler"),
        ({"precision": "bf16"}, "precision bf16 instead of fp32"),
        ({"training_items": "9 (hash 9)"}, "training items 9 (hash 9) instead of 246 (hash 1)"),
        ({"key": "another seed"}, "share fewer than 10 test items"),
        ({"steps": (1,)}, "last probed step 1 instead of the last"),
    ],
)
def test_what_cannot_be_compared_is_kept_apart(
    ledger: Path, changes: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_entry(ledger, "apart", 0.99, 0.01, seed=4, **changes)
    board = leaderboard(read_ledger(ledger))
    assert [len(group.entries) for group in board.groups] == [3, 1]
    assert reason in board.groups[1].apart
    assert letters_of(board, "saliency")["best"] == "a"
    assert main(["leaderboard", str(ledger)]) == 0
    assert f"kept apart: {board.groups[1].apart}" in capsys.readouterr().out


def test_samplers_can_be_compared_on_demand(ledger: Path) -> None:
    write_entry(ledger, "flow", 0.8, 0.3, seed=4, sampler="FlowMatchEulerDiscreteScheduler")
    (group,) = leaderboard(read_ledger(ledger), ("sampler",)).groups
    assert len(group.entries) == 4
    assert "sampler" not in group.conditions


def test_an_entry_without_a_task_has_no_score_in_it(ledger: Path) -> None:
    write_entry(ledger, "with masks only", 0.6, seed=4)
    (group,) = leaderboard(read_ledger(ledger)).groups
    (entry,) = [entry for entry in group.entries if entry.model == "with masks only"]
    assert set(entry.tasks) == {"saliency"}
    assert all(3 not in members for members in group.tied["depth"])


def test_another_step_can_be_compared(ledger: Path) -> None:
    (group,) = leaderboard(read_ledger(ledger), step=1).groups
    assert {entry.tasks["saliency"].score.step for entry in group.entries} == {1}
    assert group.entries[0].tasks["saliency"].score.log_snr == -5.3


def test_layers_of_a_model_are_compared_with_each_other(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The only layer of these entries is tied with nothing but itself."""
    assert main(["leaderboard", str(ledger), "--layers"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("layers at the last step") == 3
    assert len(re.findall(r"^mid .*\] a .*\] a$", printed, re.MULTILINE)) == 3


def test_the_files_hold_what_is_printed(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", str(ledger)]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if "abcdef" in line]
    assert [row.split()[0] for row in rows] == ["best", "alike", "other"]
    assert re.search(r"4 of 6 pairs differ, paired over shared items", printed)
    stored = json.loads((ledger / "leaderboard.json").read_text(encoding="utf-8"))
    assert Board.model_validate_json(json.dumps(stored)) == leaderboard(read_ledger(ledger))
    page = (ledger / "leaderboard.md").read_text(encoding="utf-8")
    assert [line.split("|")[1].split()[0] for line in page.splitlines() if "abcdef" in line] == [
        "best",
        "alike",
        "other",
    ]


def test_the_export_is_what_the_hub_reads(ledger: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / "scenebench.yaml"
    typed = ["leaderboard", str(ledger), "--export-hub", str(file), "--hub-model", "best"]
    assert main([*typed, "--hub-dataset", "org/scenes", "--hub-url", "https://x.org"]) == 0
    results = parse_eval_result_entries(yaml.safe_load(file.read_text(encoding="utf-8")))
    assert [(r.dataset_id, r.task_id) for r in results] == [
        ("org/scenes", "saliency_dice"),
        ("org/scenes", "depth_rmse"),
    ]
    assert results[0].value == pytest.approx(0.7, abs=0.05)
    assert (results[0].dataset_revision, results[0].source_url) == ("2", "https://x.org")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--across", "labeler"], "cannot be compared across 'labeler'"),
        (["--step", "9"], "no entry of the ledger has step 9"),
        (["--export-hub", "x.yaml"], "name one with --hub-model"),
        (["--export-hub", "x.yaml", "--hub-model", "none"], "the ledger has no model 'none'"),
        (["--out", "/proc"], "cannot write /proc: /proc is not writable"),
        (["--out", __file__], f"cannot write {__file__}: {__file__} is no folder"),
        (["--hub-model", "best"], "--hub-model is for --export-hub; add that"),
        (["--hub-url", "x"], "--hub-url is for --export-hub; add that"),
        (["LEDGER"], "is a ledger, which is shown alone"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    sentence: str,
    ledger: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed = [str(ledger) if word == "LEDGER" else word for word in arguments]
    assert main(["leaderboard", str(ledger), *typed]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line


def test_a_changed_entry_is_not_listed(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its scores were raised; the checksum in the record tells."""
    path = next(ledger.glob("other/**/scores.npz"))
    scores = {name: table.astype("f4") + 0.1 for name, table in read_arrays(path).items()}
    write_arrays(path, scores)
    assert main(["leaderboard", str(ledger)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{path.parent} was changed after its submission" in line


@pytest.mark.parametrize("content", ["{}", "no json", '{"schema": 99}'])
def test_a_damaged_entry_is_one_sentence(
    content: str, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(ledger.rglob("entry.json")).write_text(content, encoding="utf-8")
    assert main(["leaderboard", str(ledger)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "entry.json cannot be read" in line


def test_options_of_a_ledger_are_refused_for_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", str(tmp_path), "--across", "sampler"]) == 2
    assert f"--across is for a ledger, and {tmp_path} is none" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flipped", "array"])
def test_a_damaged_table_is_one_sentence(
    damage: str, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = (ledger / "best").rglob("scores.npz")
    if damage == "array":
        with file.open("wb") as stream:
            np.save(stream, np.zeros(3))
    else:
        whole = bytearray(file.read_bytes())
        for place in range(60, len(whole), 7):
            whole[place] ^= 0xFF
        file.write_bytes(bytes(whole))
    assert main(["leaderboard", str(ledger)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "scores.npz" in line


def test_a_group_without_the_step_is_told_from_a_single_entry(tmp_path: Path) -> None:
    write_entry(tmp_path, "one", 0.6, 0.5, seed=1)
    write_entry(tmp_path, "two", 0.7, 0.4, seed=2)
    board = leaderboard(read_ledger(tmp_path))
    (group,) = board.groups
    empty = group.model_copy(update={"tied": {}, "pairs": ()})
    later = board.model_copy(update={"step": 9, "groups": (empty, group)})
    assert explained(later, empty) == "no entry of this group has step 9"
    assert opening(later)[1].startswith("At step 9 (table 2 of 2), two")
