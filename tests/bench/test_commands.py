"""The smaller commands, and the documents that name them."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from bench.__main__ import main
from bench.commands.doctor import gpus
from bench.errors import UserError
from bench.report.poster import GAP, HEAD, MARGIN, TILE, write_poster
from bench.runs.results import Results
from engines.load import load

ROOT = Path(__file__).parents[2]


def test_the_poster_has_a_column_per_step_and_one_for_the_finished_image(
    small_run: Results, tmp_path: Path
) -> None:
    assert main(["report", str(small_run.path), "--poster", str(tmp_path / "poster.png")]) == 0
    with Image.open(tmp_path / "poster.png") as poster:
        columns = len([step for step in (1, 2, 3, 5, 10, 15) if step - 1 in small_run.steps]) + 1
        assert poster.width == MARGIN + columns * (TILE + GAP)


def test_a_poster_that_cannot_be_written_is_refused(
    small_run: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(small_run.path), "--poster", "/proc/poster.png"]) == 2
    assert "cannot write /proc/poster.png" in capsys.readouterr().err


def test_a_poster_of_a_short_run_shows_what_there_is(small_run: Results, tmp_path: Path) -> None:
    heights = []
    for count in (2, 3):
        short = replace(
            small_run, strips={name: values[:count] for name, values in small_run.strips.items()}
        )
        with Image.open(write_poster(short, tmp_path / "poster.png")) as poster:
            heights.append(poster.height - HEAD)
    assert heights[0] * 3 == heights[1] * 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["card", "--limit", "0"], "--limit must be at least 1, not 0"),
        (["card", "--limit", "32", "--sheet", "sheet.png"], "a sheet shows 72 samples"),
        (["card", "--device", "cuda"], "--device is for --pipelines and --controlnet"),
        (["card", "--controlnet", "a", "--sheet", "b.png"], "neither --pipelines nor --sheet"),
        (["parity", "--items", "0"], "--items must be at least 1, not 0"),
        (["parity", "--items", "-1"], "--items must be at least 1, not -1"),
        (["plan", "--part", "3/8"], "a plan is of the whole run; leave --part out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]


def test_a_sheet_that_cannot_be_written_is_refused() -> None:
    from bench.curation import model_card

    with pytest.raises(UserError, match=r"cannot write /proc/sheet\.png"):
        model_card._write_sheet(
            torch.zeros(model_card.COLUMNS * model_card.ROWS, 3, 4, 4), Path("/proc/sheet.png")
        )


@pytest.mark.parametrize(
    ("command", "starts", "resumes"),
    [
        (["run"], "bench.commands.run.config_from", True),
        (["plan"], "bench.commands.run.config_from", False),
        (["dataset", "make", "--out", "x"], "bench.commands.dataset._config", True),
        (["dataset", "audit"], "bench.commands.dataset._config", False),
        (["list"], "bench.registry.plugins", False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_only_a_command_that_resumes_says_so(
    command: list[str],
    starts: str,
    resumes: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(starts, stop)
    assert main(command) == 130
    said = capsys.readouterr().err
    assert "stopped" in said
    assert ("the same command continues from here" in said) is resumes


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"scenebench {version('scenebench')}"


def test_doctor_names_the_gpu_and_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus() == [] or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    card = SimpleNamespace(name="A Card", total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    assert gpus() == ["A Card, 24 GiB"]


@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_plans_are_made_for_the_text_that_the_model_is_given(
    kind: str, small_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, tuple[int, ...]]] = []
    monkeypatch.setattr("engines.export.exported", lambda *_: None)
    monkeypatch.setattr(
        "engines.fusion.plan_rows_of", lambda *arguments, **_: asked.append(arguments[2]) or []
    )
    assert main(["fusion", "--model", str(small_models[kind]), "--rows", "1"]) == 0
    parts = load(small_models[kind])
    (sizes,) = asked
    assert sizes["text"] == tuple(parts.embed([""])["text"].shape)
    assert sizes["latents"] == (1, *parts.latent_shape)


def test_export_finds_the_shipped_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--graphs", str(tmp_path)]) == 0
    path = Path(capsys.readouterr().out.splitlines()[0])
    assert path.name == "graph.onnx"
    assert path.stat().st_size < 1_000_000


@pytest.mark.slow
def test_the_card_measures_model_and_labeler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    listed = capsys.readouterr().out
    named = set(re.findall(r"python -m bench ([\w-]*\w)", (ROOT / "README.md").read_text()))
    assert {"run", "leaderboard", "report", "parity", "list", "doctor"} <= named
    assert all(re.search(rf"^    {name}\b", listed, re.MULTILINE) for name in named)


def test_every_option_the_readme_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    listed = capsys.readouterr().out
    text = (ROOT / "README.md").read_text()
    useful = text[text.index("Useful options") : text.index("Your own model")]
    named = re.findall(r"--[a-z-]+", useful)
    assert named
    assert all(option in listed for option in named)


def test_ci_runs_the_readmes_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    pattern = re.search(r"grep -E '(.*)' README.md", script.read_text()).group(1)
    assert len(re.findall(pattern, (ROOT / "README.md").read_text(), re.MULTILINE)) == 1
