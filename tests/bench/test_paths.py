"""Paths as people type them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bench.__main__ import _parser, main
from bench.config import config_of
from bench.options.typed import expanded, typed_path
from bench.study import dataset_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_stands_for_the_home_folder_at_the_beginning_only(home: Path) -> None:
    assert expanded("~/a b") == str(home / "a b")
    assert expanded("a/~/b") == "a/~/b"
    assert expanded("~nobody-of-that-name/x") == "~nobody-of-that-name/x"
    assert typed_path("~") == home


def test_every_path_in_a_configuration_is_expanded(home: Path) -> None:
    names = ("model", "dataset", "prompts", "depth_model", "saliency_model", "out")
    config = config_of(dict.fromkeys(names, "~/x"))
    assert {getattr(config, name) for name in names} == {str(home / "x")}


def _paths(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.Action]]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action.choices.values():
                found += _paths(choice)
        else:
            found.append((parser.prog, action))
    return found


def test_no_option_of_a_command_takes_a_path_literally() -> None:
    actions = _paths(_parser())
    assert sum(action.type is typed_path for _, action in actions) > 10
    assert [(prog, action.dest) for prog, action in actions if action.type is Path] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b's & <i> 100% 富.CSV", "prompt,split\na,train\nb,train\nc,train\nd,test\n"),
        ("p.TSV", "prompt\tsplit\na\ttrain\nb\ttrain\nc\ttrain\nd\ttest\n"),
        ("p.txt", "a\nb\nc\nd\n"),
    ],
)
def test_a_file_in_the_home_folder_is_read_by_its_typed_name(
    name: str, text: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / name).write_text(text, encoding="utf-8")
    _, items = dataset_of(config_of({"dataset": f"~/{name}"}))
    assert [item.prompt for item in items] == ["a", "b", "c", "d"]
    assert main(["dataset", "audit", "--dataset", f"~/{name}"]) == 0
    assert "4 items" in capsys.readouterr().out


def test_a_run_folder_in_the_home_folder_is_found(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "~/none"]) == 2
    assert f"{home}/none is no run folder" in capsys.readouterr().err
