"""The command line: bad input ends with one sentence and exit code 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.config import Config, config_of, names, quick, read_toml
from bench.errors import UserError
from bench.runs.results import Results, read_results


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "tni"], "there is no model 'tni'; did you mean tiny?"),
        (
            ["--model", "/nowhere/at/all", "--labeler", "tiny"],
            "neither a diffusers model folder nor a hub id",
        ),
        (["--engine", "onnx"], "there is no engine 'onnx'; did you mean onnxruntime?"),
        (["--dataset", "scenes"], "did you mean scenes617?"),
        (["--labeler", "midass"], "there is no labeler 'midass'"),
        (["--tasks", "dept"], "there is no task 'dept'; did you mean depth?"),
        (["--layers", "up9"], "this model has no layer 'up9'; it has down0.0"),
        (["--steps", "0"], "step 0 does not exist: the sampler has steps 1 to 15"),
        (["--steps", "9-20"], "step 16 does not exist"),
        (["--limit", "3"], "training items are too few"),
        (["--limit", "-3"], "limit must be a whole number of at least 2"),
        (["--batch", "0"], "batch must be a whole number of at least 1"),
        (["--source", "photos"], "source must be one of generated, rendered"),
        (["--baselines", "vea"], "there is no baseline 'vea'; did you mean vae?"),
        (["--quick", "--out", "/proc/nothing"], "choose another --out"),
        (["--config", "/nowhere.toml"], "cannot read the configuration"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]


@pytest.mark.parametrize(
    ("option", "typed", "sentence"),
    [
        ("--steps", "5-1", "'5-1' is not a step or a range of steps"),
        ("--steps", "1,5-1", "'5-1' is not a step or a range of steps"),
        ("--steps", ",", "',' names no step"),
        ("--steps", "", "'' names no step"),
        ("--depth-scale", ",", "',' is not a list of numbers"),
        ("--tasks", ",", "',' names nothing; give names between commas"),
        ("--layers", "", "'' names nothing"),
        ("--baselines", ",", "',' names nothing"),
    ],
)
def test_a_list_of_nothing_is_refused(
    option: str, typed: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", option, typed])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("limit = 'many'", "limit must be a whole number"),
        ("limits = 3", "there is no option 'limits'; did you mean limit?"),
        ("steps = [1, 99]", "step 99 does not exist"),
        ("tasks = []", "tasks is empty"),
        ("tasks = 'depth'", "tasks must be a list of names"),
        ("limit = ", "is not a TOML file"),
        ("guidance = 'strong'", "guidance must be a number"),
        ("compare = ['vae']", "the option compare is now baselines"),
    ],
)
def test_a_bad_configuration_file_is_one_sentence(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    assert main(["run", "--config", str(file)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--quik"], "unknown: --quik; python -m bench run --help lists the options"),
        (
            ["adam-vs-ridge", "x", "--cels=1"],
            "unknown: --cels=1; python -m bench adam-vs-ridge --help lists the options",
        ),
        (
            ["claim", "check", "x", "--modl", "y"],
            "unknown: --modl y; python -m bench claim check --help lists the options",
        ),
    ],
)
def test_an_unknown_option_names_the_help_of_its_command(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"bench: {sentence}\n"


def test_a_name_that_is_typed_twice_counts_once() -> None:
    assert names("pattern, weights,pattern") == ("pattern", "weights")


def test_former_names_of_an_option_and_a_command_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for typed in (["--compare", "vae"], ["--compare"]):
        with pytest.raises(SystemExit) as ended:
            main(["run", *typed])
        assert ended.value.code == 2
        assert "--compare is now --baselines" in capsys.readouterr().err
    assert main(["recipe", "runs/any"]) == 2
    assert capsys.readouterr().err == "bench: the command recipe is now adam-vs-ridge\n"


def test_every_option_of_a_run_is_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    words = capsys.readouterr().out
    assert all(f"--{field.name.replace('_', '-')} " in words for field in fields(Config))
    assert "compare" not in words


def test_a_configuration_file_says_the_same_as_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('tasks = ["depth"]\nsteps = [1, 5]\nlimit = 100\nmodel = "tiny"\n')
    assert config_of(read_toml(file)) == Config(tasks=("depth",), steps=(1, 5), limit=100)


def test_quick_keeps_what_was_chosen() -> None:
    assert quick(Config(limit=30, steps=(2,))) == Config(limit=30, steps=(2,))
    assert quick(Config(sampler_steps=4)).steps == (1, 3, 4)


def test_leaderboard_prints_every_layer_and_control(
    small_run: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", str(small_run.path)]) == 0
    said = capsys.readouterr().out
    for word in (
        *small_run.layers,
        "permuted",
        "random",
        "ceiling",
        "position alone",
        "mean training map",
        "gain",
    ):
        assert word in said


def test_runs_are_compared_side_by_side(
    small_run: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", str(small_run.path), str(small_run.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith(str(small_run.path))]
    assert [row.split()[1] for row in rows][:2] == ["tiny", "tiny"]


@pytest.mark.parametrize("command", ["leaderboard", "report"])
def test_a_folder_that_is_no_run_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["scores.safetensors", "cells.csv", "environment.json", "strips.safetensors"]
)
def test_a_damaged_run_folder_is_refused_in_words(name: str, copied_run: Path) -> None:
    file = copied_run / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged"):
        read_results(copied_run)


def test_doctor_finds_the_default_run_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "ready: python -m bench run" in capsys.readouterr().out


@pytest.mark.parametrize("steps", [3, pytest.param(15, marks=pytest.mark.slow)])
def test_parity_of_onnxruntime_is_within_the_limit(
    steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", "--items", "2", "--sampler-steps", str(steps)]) == 0
    said = capsys.readouterr().out
    assert "up3.2" in said
    assert "own trajectory" in said


def test_a_reader_that_leaves_ends_a_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench", "list"],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
