"""Profiles that are refused, each with one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.errors import UserError
from bench.profiling import probe_parity
from bench.profiling.config import REFERENCE, ProfileConfig, chosen_engines
from bench.profiling.profile import _Session, open_profile_study, profile
from bench.runs.results import Results
from bench.study import open_study

SMALL = ProfileConfig(engines=("onnxruntime",), threads=1)


def test_pytorch_is_always_among_the_engines() -> None:
    assert chosen_engines(SMALL) == (REFERENCE, "onnxruntime")
    assert {REFERENCE, "onnxruntime"} <= set(chosen_engines(ProfileConfig()))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--engines", "onnx"], "there is no engine 'onnx'; did you mean onnxruntime?"),
        (["--batch", "0"], "batch must be rows per call, each at least 1"),
        (["--items", "1"], "items must be a whole number of at least 2"),
        (["--rounds", "0"], "rounds must be a whole number of at least 1"),
        (["--model", "tni"], "there is no model 'tni'; did you mean tiny?"),
        (["--model", "sd_v1"], "--weights random"),
        (
            ["--model", "owner/other", "--weights", "random"],
            "the architecture of owner/other is not known",
        ),
        (["--weights", "rand"], "weights must be one of trained, random"),
        (["--baselines", "hook"], "--baselines knows no 'hook'; did you mean hooks?"),
        (["--skip", "all"], "--skip knows no 'all'"),
        (["--run", "/nowhere"], "/nowhere is no run folder"),
        (["--run", "/nowhere", "--weights", "random"], "--run holds probes of trained weights"),
        (["--out", "/proc/nothing"], "choose another --out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["profile", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert not list(tmp_path.rglob("*.json"))


def test_an_engine_that_cannot_be_used_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.backends import onnxruntime

    broken = replace(onnxruntime.BACKEND, unavailable=lambda: "it is not installed")
    monkeypatch.setattr(onnxruntime, "BACKEND", broken)
    with pytest.raises(
        UserError, match="engine onnxruntime cannot be used here: it is not installed"
    ):
        chosen_engines(SMALL)
    assert "onnxruntime" not in chosen_engines(ProfileConfig())


def test_a_run_of_another_sampler_is_refused(small_run: Results, tmp_path: Path) -> None:
    config = replace(SMALL, sampler_steps=3, run=str(small_run.path), out=str(tmp_path / "p"))
    with pytest.raises(UserError, match="has --sampler-steps 4, not 3"):
        profile(config)


def test_a_run_whose_probes_read_something_else_is_refused(
    small_run: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = replace(small_run, config=replace(small_run.config, width=8))
    monkeypatch.setattr(probe_parity, "read_results", lambda _: narrow)
    study = open_study(small_run.config)
    with pytest.raises(UserError, match="has --width 8, which a profile does not take"):
        probe_parity.stored_probes(small_run.path, study, "tiny")


class EarlyError(Exception):
    """Ends a profile where engines would be opened."""


def exit_early() -> None:
    raise EarlyError


@pytest.mark.parametrize("guidance", [None, 1.0])
def test_hooks_without_guidance_are_refused_before_an_engine_is_opened(
    guidance: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = open_profile_study(SMALL)
    monkeypatch.setattr(type(study), "guidance", property(lambda _: guidance))
    monkeypatch.setattr("bench.profiling.profile.open_profile_study", lambda _: study)
    opened: list[object] = []
    monkeypatch.setattr(_Session, "open", lambda *_: opened.append(1) or exit_early())
    config = replace(SMALL, baselines=("hooks",), out=str(tmp_path / "p"))
    expected = UserError if guidance is None else EarlyError
    with pytest.raises(expected):
        profile(config)
    assert bool(opened) == (guidance is not None)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds thesis"):
        profile(replace(SMALL, out=str(tmp_path)))
