"""What commands refuse before they work: files that cannot be written, and other mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import main

OUTPUTS = {
    "report x --poster": ".png",
    "report x --heatmap": ".png",
    "card --sheet": ".png",
    "intervene x --path line --gif": ".gif",
    "intervene x --map --figure": ".png",
    "claim check x --json": "",
    "leaderboard x --export-hub": "",
    "doctor --measure --out": "",
    "across x --out": None,
    "leaderboard x --out": None,
    "submit x --ledger": None,
    "export --graphs": None,
}
"""Option -> suffix of the file that it names; None for a folder."""


@pytest.mark.parametrize("option", OUTPUTS)
def test_what_cannot_be_written_is_refused_before_the_work(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = OUTPUTS[option]
    (tmp_path / "file").touch()
    for place, why in (("/proc", "is not writable"), (str(tmp_path / "file"), "is no folder")):
        path = f"{place}/new{suffix or ''}"
        assert main([*option.split(), path]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"cannot write {path}: {place} {why}" in line
    if suffix is not None:
        (tmp_path / f"folder{suffix}").mkdir()
        assert main([*option.split(), str(tmp_path / f"folder{suffix}")]) == 2
        assert "is a folder; name a file in it" in capsys.readouterr().err
    if suffix:
        assert main([*option.split(), str(tmp_path / "x.txt")]) == 2
        assert f"does not end in {suffix}" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} <= {"file", f"folder{suffix}"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dataset", "audit", "--show", "-1"], "--show must be at least 0, not -1"),
        (
            ["plan", "--model", __file__],
            "is a file, neither a diffusers model folder nor a hub id; give such a",
        ),
        (["card", "--controlnet", "/nowhere"], "/nowhere is no ControlNet of python -m engines"),
        (
            ["card", "--pipelines", "/nowhere"],
            "its model_index.json cannot be read (No such file or directory); name another",
        ),
        (["leaderboard", str(Path(__file__).parent)], "is no run folder and holds no ledger"),
        (["claim", "run", "x", "--all"], "--all runs every claim; leave it out, or the names"),
        (
            ["claim", "run", "edits-move-the-object", "--sampler-steps", "3"],
            "claims about edits change steps 1 to 5; give --sampler-steps of at least 5",
        ),
        (
            ["claim", "run", "readable-by-step-5", "--model", "tiny,tni"],
            "there is no model 'tni'; did you mean tiny?",
        ),
        (
            ["across", "x", "--items", "0", "--threads", "1"],
            "--threads is for items that are generated",
        ),
        (["across", "x", "--threads", "0"], "threads must be a whole number from 1"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_mistakes_in_other_commands_are_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
