"""Interventions that are refused: impossible options, unsuitable runs, damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.errors import UserError
from bench.interventions.config import Plan
from bench.interventions.records import read_summary
from bench.interventions.runner import open_editable
from bench.runs.results import read_results


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--steps", "1-9"], "no probes of step 5"),
        (["--layers", "down9", "--steps", "1"], "no probes of layer 'down9'"),
        (["--methods", "patern", "--steps", "1"], "did you mean pattern"),
        (["--methods", "adam", "--steps", "1"], "did you mean ridge-adam"),
        (["--target", "farther", "--steps", "1"], "the target farther is one of depth"),
        (
            ["--task", "depth", "--target", "tilted", "--unfiltered", "--steps", "1"],
            "--unfiltered is of shifts",
        ),
        (
            ["--task", "depth", "--target", "nearer", "--shifts", "3", "--steps", "1"],
            "--shifts is of shifts, and the target is nearer",
        ),
        (["--damages", "0.1,0.05", "--steps", "1"], "damages must be numbers that rise"),
        (["--extend", "-1", "--steps", "1"], "extend must be 0 to 10"),
        (
            ["--methods", "controlnet", "--controlnet", "nowhere", "--steps", "1"],
            "there is no folder nowhere; give that of a ControlNet",
        ),
        (["--controls", "nul", "--steps", "1"], "no control 'nul'"),
        (["--strengths", "0", "--steps", "1"], "above zero"),
        (["--task", "normals", "--steps", "1"], "no probes of 'normals'"),
        (["--items", "1", "--steps", "1"], "items must be at least 2"),
        (["--items", "0", "--steps", "1"], "items must be at least 2, not 0"),
        (
            ["--choose-items", "1", "--steps", "1"],
            "choose_items must be at least 2, or 0 to choose on the test items",
        ),
        (
            ["--task", "colour", "--steps", "1"],
            "colour is one label of a whole image, which cannot be moved",
        ),
        (
            ["--path", "line", "--strengths", "1,2", "--steps", "1"],
            "--path takes one of --strengths, not 2",
        ),
        (
            ["--sweep", "--methods", "ridge-adam,pattern"],
            "--sweep takes one of --methods, not 2",
        ),
        (
            ["--attributes", "--damages", "0.05,0.1", "--steps", "1"],
            "--attributes takes one of --damages, not 2",
        ),
        (
            ["--attributes", "--damages", "1"],
            "between 0 and 1, such as 0.1; 1 is reached by no image",
        ),
        (
            ["--path", "line", "--controlnet", "x", "--steps", "1"],
            "--controlnet is for --methods controlnet; add that",
        ),
        (["--strengths", "patern=8"], "there is no method 'patern'; did you mean pattern?"),
        (
            ["--methods", "pattern", "--strengths", "weights=8", "--steps", "1"],
            "--strengths names weights, which is not among the methods pattern; add it",
        ),
        (["--strengths", "pattern=-8", "--steps", "1"], "strengths of pattern must be numbers"),
        (["--steps", "1", "--gif", "x.gif"], "--gif is of a path"),
        (["--steps", "1", "--frames", "4"], "--frames is of a path"),
        (["--path", "circle", "--frames", "2", "--steps", "1"], "--frames must be at least 3"),
        (["--strengths", "8,8"], "strengths name 8 twice; name it once"),
        (["--strengths", "8", "--strengths", "16"], "--strengths is given twice for all methods"),
        (
            ["--strengths", "pattern=8", "--strengths", "pattern=16"],
            "--strengths is given twice for pattern; give one list",
        ),
        (["--strengths", "pattern=8,8", "--steps", "1"], "strengths of pattern name 8 twice"),
        (
            ["--methods", "pattern", "--controlnet", "nowhere"],
            "--controlnet is for --methods controlnet; add that",
        ),
        (["--path", "line", "--gif", "x.png"], "x.png does not end in .gif"),
        (["--path", "line", "--gif", "/proc/x.gif"], "cannot write /proc/x.gif"),
        (["--map", "--figure", "x.gif"], "x.gif does not end in .png"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_mistakes_are_refused_in_one_sentence(
    arguments: list[str], sentence: str, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["intervene", str(copied_run), "--threads", "1", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


OF_THE_EXPERIMENT = (
    *("--controls=late", "--choose-items=2", "--late-steps=4", "--extend=1"),
    *("--strengths=published=1", "--strengths=controlnet=1", "--strengths=weights=8"),
)
OF_CELLS = ("--damages=0.1", "--controlnet=x", "--layers=mid", "--steps=1")
NOT_USED = {
    "--sweep": (*OF_THE_EXPERIMENT, *OF_CELLS),
    "--map": (*OF_THE_EXPERIMENT, *OF_CELLS),
    "--attributes": (
        *(*OF_THE_EXPERIMENT, "--controlnet=x", "--task=depth", "--methods=weights"),
        *("--strengths=8,16", "--target=shifted", "--unfiltered", "--shifts=1", "--batch=4"),
    ),
    "--path=line": (
        *(*OF_THE_EXPERIMENT, "--damages=0.1"),
        *("--target=shifted", "--unfiltered", "--shifts=1"),
    ),
}


@pytest.mark.parametrize(
    ("mode", "option"), [(mode, option) for mode, all_of in NOT_USED.items() for option in all_of]
)
def test_an_option_that_has_no_effect_is_refused(
    mode: str, option: str, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["intervene", str(copied_run), "--threads", "1", mode, option]) == 2
    name, _, value = option.partition("=")
    what = "strengths of named methods" if "=" in value else name
    expected = f"{mode.partition('=')[0]} does not use {what}; leave it out"
    assert capsys.readouterr().err.strip().endswith(expected)


def test_strengths_of_a_method_are_numbers(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["intervene", str(copied_run), "--strengths", "pattern="])
    assert ended.value.code == 2
    assert "'' is not a list of numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "typed", "sentence"),
    [
        ("--strengths", "=16", "names no method before the equals sign"),
        ("--layers", ",", "names nothing; give names between commas"),
    ],
)
def test_a_list_that_names_nothing_is_refused(
    option: str, typed: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["intervene", "any", option, typed])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_plan_that_was_made_in_code_is_checked_alike() -> None:
    for options in ({"methods": ("pattern", "pattern")}, {"controls": ("random", "random")}):
        with pytest.raises(UserError, match="is named twice"):
            Plan(**options)


def test_a_run_of_rendered_images_is_refused(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied_run / "config.json"
    stored = json.loads(path.read_text())
    stored["options"]["source"] = "rendered"
    path.write_text(json.dumps(stored))
    assert main(["intervene", str(copied_run), "--steps", "1"]) == 2
    assert "is of rendered images, which no edit can change" in capsys.readouterr().err


def test_a_run_of_projected_layers_is_refused(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied_run / "config.json"
    stored = json.loads(path.read_text())
    stored["options"]["width"] = 8
    path.write_text(json.dumps(stored))
    assert main(["intervene", str(copied_run), "--steps", "1"]) == 2
    assert "projected to 8 channels, and edits need all channels" in capsys.readouterr().err


def test_a_summary_that_is_no_record_is_refused(copied_run: Path) -> None:
    folder = copied_run / "interventions" / "saliency"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("[]")
    with pytest.raises(UserError, match="is damaged"):
        read_summary(copied_run, "saliency")


def test_a_run_of_another_installation_is_refused(copied_run: Path) -> None:
    path = copied_run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "another"}))
    with pytest.raises(UserError, match="other weights, another labeler or other package versions"):
        open_editable(read_results(copied_run), 1)
