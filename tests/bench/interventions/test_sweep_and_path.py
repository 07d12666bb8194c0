"""Sweeps over blocks and windows, and movements along a path, on the small run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bench.__main__ import main
from bench.interventions.runner import run_arms
from bench.runs.results import Results


def test_a_sweep_compares_blocks_and_windows(
    small_run: Results,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = shutil.copytree(small_run.path, tmp_path / "run")
    few = ["--items", "2", "--shifts", "1", "--threads", "1"]
    splits: list[str] = []
    monkeypatch.setattr(
        "bench.interventions.sweep.run_arms",
        lambda *arguments: splits.append(arguments[2]) or run_arms(*arguments),
    )
    assert main(["intervene", str(path), "--sweep", *few]) == 0
    # What a sweep finds is confirmed on test items, which it must not have seen.
    assert splits == ["train"]
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    sites = len([line for line in lines if re.match(r"(mid|up\d|decoder) ", line)])
    assert f"of {2 * sites} gains hold at a false discovery rate of 5 %" in printed
    assert "q over no edit" in printed
    assert "2 training items" in printed
    for group in ("mid", "up2", "up3", "decoder"):
        assert any(line.startswith(f"{group} ") for line in lines)
    # The windows are shares of the sampler's four steps.
    steps = {re.split(r"  +", line)[1] for line in lines if line.startswith("decoder ")}
    assert steps == {"1", "2, 3", "4"}


def test_a_path_gives_a_gif_and_correlations(
    small_run: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(small_run.path, tmp_path / "run")
    few = ["--items", "2", "--frames", "4", "--threads", "1", "--steps", "1-2"]
    gif = tmp_path / "moving.gif"
    assert main(["intervene", str(path), "--path", "circle", "--gif", str(gif), *few]) == 0
    with Image.open(gif) as image:
        assert image.n_frames == 4
    printed = capsys.readouterr().out
    assert "x, random direction" in printed
    assert any(line.startswith("mean") and "[" in line for line in printed.splitlines())
