"""A run of an architecture without weights reads and downloads nothing, and says so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.config import Config
from bench.labeling import brightness_stands_in
from bench.report.tables import UNTRAINED
from bench.runs.results import read_results


@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_a_run_needs_no_weights_and_says_so(
    kind: str, small_models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = Path(
        shutil.copytree(
            small_models[kind], tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors")
        )
    )
    command = [
        "run",
        "--model",
        str(bare),
        "--weights",
        "random",
        "--engine",
        "torch_eager",
        "--limit",
        "12",
    ]
    command += ["--sampler-steps", "1", "--steps", "1", "--layers", "mid", "--threads", "1"]
    runs = []
    for name in ("one", "two"):
        assert main([*command, "--out", str(tmp_path / name)]) == 0
        said = capsys.readouterr().out
        assert UNTRAINED in said
        assert "brightness stood in for labels" in said
        runs.append(read_results(tmp_path / name))
    for name, task in runs[0].tasks.items():
        assert np.array_equal(task.scores, runs[1].tasks[name].scores, equal_nan=True)


def test_weights_are_trained_or_random(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--weights", "lost"]) == 2
    assert "weights must be one of trained, random" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--depth-model", "--saliency-model"])
def test_networks_that_nothing_would_ask_are_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--weights", "random", option, "x/y"]) == 2
    assert (
        f"the labeler brightness takes no other networks; leave {option} out"
        in capsys.readouterr().err
    )


def test_brightness_is_named_where_it_stood_in() -> None:
    random = Config(weights="random")
    assert brightness_stands_in(random)
    for config in (Config(), replace(random, source="rendered"), replace(random, labeler="tiny")):
        assert not brightness_stands_in(config)
