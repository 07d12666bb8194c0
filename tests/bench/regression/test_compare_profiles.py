"""Comparisons of two profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.profiling.config import REFERENCE
from bench.profiling.records import read_profile, write_profile
from bench.runs.results import Results
from tests.made_profile import made_profile


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["compare", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_profiles_are_compared_engine_by_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, slower = made_profile(tmp_path / "a"), made_profile(tmp_path / "b", 1.15, seed=1)
    code, text = said(capsys, base, slower, "--fail-on", "latency:5%")
    assert code == 1
    assert "onnxruntime, 2 rows" in text
    assert (
        said(
            capsys,
            base,
            made_profile(tmp_path / "c", 1.0, seed=2),
            "--fail-on",
            "latency:5%,memory:1%",
        )[0]
        == 0
    )
    assert (
        said(capsys, base, made_profile(tmp_path / "d", 1.0, peak=150), "--fail-on", "memory:10%")[
            0
        ]
        == 1
    )
    code, text = said(capsys, base, slower, "--fail-on", "dice:0.1")
    assert code == 2
    assert "there are: latency, memory" in text


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"model": "sd15"}, "model (tiny, sd15)"),
        ({"weights": "random"}, "weights (trained, random)"),
        ({"precision": "bf16"}, "torch_eager's precision (fp32, bf16)"),
    ],
)
def test_profiles_of_other_models_weights_or_precisions_are_refused(
    other: dict[str, str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(
        capsys, made_profile(tmp_path / "a"), made_profile(tmp_path / "b", 1.0, **other)
    )
    assert code == 2
    assert word in text


def test_memory_is_compared_at_equal_rows_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = made_profile(tmp_path / "a", 1.0)
    assert "peak of calls of 2 rows" in said(capsys, base, made_profile(tmp_path / "b", 1.0))[1]
    assert "peak of calls" not in said(capsys, base, made_profile(tmp_path / "c", 1.0, rows=8))[1]


def test_a_run_is_not_compared_with_a_profile(
    small_run: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, small_run.path, made_profile(tmp_path / "a", 1.0))
    assert code == 2
    assert "compare two of a kind" in text
    code, text = said(capsys, small_run.path, tmp_path / "nothing")
    assert code == 2
    assert "neither a run folder nor a profile folder" in text


def test_a_figure_that_cannot_be_compared_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = made_profile(tmp_path / "a", 1.0)
    without = read_profile(made_profile(tmp_path / "b", 1.0))
    engines = {name: replace(facts, memory=None) for name, facts in without.engines.items()}
    write_profile(tmp_path / "b", replace(without, engines=engines))
    code, text = said(capsys, base, tmp_path / "b", "--fail-on", "memory:10%")
    assert code == 2
    assert "have no memory in common, which --fail-on names" in text
    code, text = said(capsys, base, tmp_path / "b")
    assert code == 0
    assert "memory is not compared: not both profiles have it" in text
    kept = {REFERENCE: without.engines[REFERENCE]}
    write_profile(tmp_path / "b", replace(without, engines=kept))
    assert "onnxruntime is not compared: only" in said(capsys, base, tmp_path / "b")[1]
