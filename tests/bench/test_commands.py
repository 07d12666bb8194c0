"""The smaller commands, and the words of the documents that name them."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from PIL import Image

from bench.__main__ import main
from bench.poster import GAP, MARGIN, TILE
from bench.results import Results

ROOT = Path(__file__).parents[2]


def test_the_poster_has_a_column_per_step_and_one_for_the_finished_picture(small_run: Results, tmp_path: Path) -> None:
    assert main(["report", str(small_run.path), "--poster", str(tmp_path / "poster.png")]) == 0
    with Image.open(tmp_path / "poster.png") as poster:
        columns = len([step for step in (1, 2, 3, 5, 10, 15) if step - 1 in small_run.steps]) + 1
        assert poster.width == MARGIN + columns * (TILE + GAP)


def test_a_poster_that_cannot_be_written_is_refused(small_run: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(small_run.path), "--poster", "/proc/poster.png"]) == 2
    assert "cannot write /proc/poster.png" in capsys.readouterr().err


def test_export_finds_the_shipped_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--graphs", str(tmp_path)]) == 0
    path = Path(capsys.readouterr().out.splitlines()[0])
    assert path.name == "graph.onnx"
    assert path.stat().st_size < 1_000_000


@pytest.mark.slow
def test_the_card_measures_model_and_labeler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "--limit", "80", "--sheet", str(tmp_path / "sheet.png")]) == 0
    said = capsys.readouterr().out
    psnr = float(re.search(r"([\d.]+) dB PSNR", said).group(1))
    assert psnr > 25
    for word in ("color", "shape", "light", "floor", "wall"):
        assert re.search(rf"^{word} ", said, re.MULTILINE)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (12 * 64, 6 * 64)


def test_every_command_the_readme_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    known = capsys.readouterr().out
    named = set(re.findall(r"python -m bench (\w+)", (ROOT / "README.md").read_text()))
    assert {"run", "leaderboard", "report", "parity", "list", "doctor"} <= named
    assert all(re.search(rf"^    {name}\b", known, re.MULTILINE) for name in named)


def test_every_option_the_readme_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    known = capsys.readouterr().out
    text = (ROOT / "README.md").read_text()
    useful = text[text.index("Useful options") : text.index("Your own model")]
    named = re.findall(r"--[a-z-]+", useful)
    assert named
    assert all(option in known for option in named)


def test_ci_runs_the_readmes_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    pattern = re.search(r"grep -E '(.*)' README.md", script.read_text()).group(1)
    assert len(re.findall(pattern, (ROOT / "README.md").read_text(), re.MULTILINE)) == 1
