"""Every later command copes with what a small run lawfully lacks."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import pytest

from bench.__main__ import main
from bench.config import Config
from bench.report.side_by_side import print_comparison
from bench.report.tables import caveats
from bench.run import run
from bench.runs.results import read_results

ODD = "a b's <i>&amp; 100% |x| `y` *z* 富"
"""A folder's name with every character that a shell, HTML or Markdown reads as its own."""
INTERVENE = ["--items", "2", "--choose-items", "2", "--shifts", "1", "--strengths", "1"]
INTERVENE += ["--layers", "mid", "--steps", "1,2", "--methods", "weights", "--threads", "1"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / ODD
    return run(
        Config(
            limit=12,
            sampler_steps=2,
            layers=("mid",),
            random_networks=0,
            threads=1,
            engine="torch_eager",
            out=str(folder),
        )
    ).path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["leaderboard", "RUN"], "no draws of permuted labels instead of 5"),
        (["leaderboard", "RUN", "--format", "github"], "| layer"),
        (["leaderboard", "RUN", "RUN"], "test items"),
        (["report", "RUN", "--poster", "OUT/p.png", "--heatmap", "OUT/h.png"], "report.html"),
        (["compare", "RUN", "RUN", "--fail-on", "dice:0.01,latency:5%"], "no regression"),
        (["intervene", "RUN", *INTERVENE], "the control permuted is left out"),
        (["adam-vs-ridge", "RUN", "--epochs", "1", "--cells", "1", "--threads", "1"], "figures in"),
        (["calibration", "--run", "RUN"], "fewer than 2 probes of permuted labels"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_a_command_ends_in_figures_or_in_a_sentence(
    arguments: list[str],
    sentence: str,
    few: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = str(copytree(few, tmp_path / ODD))
    typed = [word.replace("RUN", copy).replace("OUT", str(tmp_path)) for word in arguments]
    code = main(typed)
    captured = capsys.readouterr()
    assert code == (2 if arguments[0] == "calibration" else 0)
    assert sentence in captured.out + captured.err


def test_what_crosses_the_split_is_said_beside_the_scores(few: Path) -> None:
    results = read_results(few)
    assert results.overlap is not None
    assert results.overlap.items == 12
    said = results.overlap.sentences
    assert set(said) <= set(caveats(results))
    page = (few / "report.html").read_text(encoding="utf-8") if _reported(few) else ""
    assert all(sentence in page for sentence in said)
    document = json.loads((few / "findings.json").read_text(encoding="utf-8"))
    assert document["overlap"]["equal"] == results.overlap.equal


def _reported(folder: Path) -> bool:
    return main(["report", str(folder)]) == 0


def test_odd_names_of_folders_leave_markdown_a_table(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = read_results(few)
    print_comparison([results, results], "github")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    bars = [line.replace("\\|", "").count("|") for line in rows]
    assert len(set(bars)) == 1
    assert "<i>" not in "".join(rows)
    assert "&lt;i&gt;&amp;amp; 100%" in rows[2]
