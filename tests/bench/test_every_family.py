"""Every family from its folder to the report, as a user types it: plan, run, profile, intervene."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.runs.results import read_results
from engines.load import load
from tests import small_models
from tests.small_transformers import save

UNETS = {"sd1": small_models.save_sd1, "sd2": small_models.save_sd2, "sdxl": small_models.save_sdxl}
LARGE = ["--size", "32x48"]
"""For models that state 1024 pixels, in whatever width."""
TWICE = ["--true-guidance", "2"]
CASES: dict[str, tuple[str, list[str]]] = {
    "sd1": ("sd1", []),
    "sd2": ("sd2", []),
    "sdxl": ("sdxl", []),
    "sd3": ("sd3", []),
    "sd35": ("sd35", []),
    "flux-dev": ("flux-dev", LARGE),
    "flux-dev-twice": ("flux-dev", LARGE + TWICE),
    "flux-schnell-twice": ("flux-schnell", LARGE + TWICE),
    "pixart-alpha": ("pixart-alpha", LARGE),
    "pixart-sigma": ("pixart-sigma", []),
    "sana": ("sana", []),
}
"""Name -> kind of model, and options of a run."""
GUIDANCE = {
    **{"sd1": 7.5, "sd2": 7.5, "sdxl": 7.5, "sd3": 7.0, "sd35": 7.0},
    **{"flux-dev": None, "flux-dev-twice": 2.0, "flux-schnell-twice": 2.0},
    **{"pixart-alpha": 4.5, "pixart-sigma": 4.5, "sana": 4.5},
}
"""Strength by a second row of the batch: the family's default, or what was typed; None without."""
SMALL = ["--labeler", "brightness", "--limit", "12", "--sampler-steps", "2"]
SMALL += ["--engine", "torch_eager", "--threads", "1"]
EDITED = ["--items", "2", "--choose-items", "2", "--shifts", "1", "--strengths", "1"]
EDITED += ["--steps", "1,2", "--methods", "weights,pattern", "--threads", "1"]

Finished = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a random model, made once."""
    models = tmp_path_factory.mktemp("models")

    @cache
    def made(kind: str) -> Path:
        path: Path = UNETS[kind](models / kind) if kind in UNETS else save(kind, models / kind)
        return path

    return made


@pytest.fixture(scope="module")
def finished(folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The run folder of a case, made once by the command line."""
    runs = tmp_path_factory.mktemp("runs")

    @cache
    def run(case: str) -> Path:
        kind, options = CASES[case]
        words = ["run", "--model", str(folder(kind)), *SMALL, *options, "--out", str(runs / case)]
        assert main(words) == 0
        return runs / case

    return run


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_ends_in_a_report_on_every_layer(
    case: str, finished: Finished, folder: Callable[[str], Path]
) -> None:
    results = read_results(finished(case))
    page = (finished(case) / "report.html").read_text(encoding="utf-8")
    assert list(results.layers) == [tap.layer for tap in load(folder(CASES[case][0])).taps()]
    assert results.log_snr is not None
    assert results.log_snr == tuple(sorted(results.log_snr))
    for task in results.tasks.values():
        for layer in results.layers:
            assert f"<th>{layer}</th>" in page or f"<td>{layer}</td>" in page
            for step in results.steps:
                (cell,) = task.where(network="trained", layer=layer, step=step, probe="activations")
                assert np.isfinite(task.score(cell)).all()
    assert results.record.guidance == GUIDANCE[case]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_is_planned(
    case: str, folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    kind, options = CASES[case]
    assert main(["plan", "--model", str(folder(kind)), *SMALL, *options, "--sample", "2"]) == 0
    printed = capsys.readouterr().out
    assert "TFLOP" in printed
    assert "image-steps" in printed


@pytest.mark.slow
@pytest.mark.parametrize("kind", dict.fromkeys(kind for kind, _ in CASES.values()))
def test_an_engine_is_profiled(
    kind: str, folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["profile", "--model", str(folder(kind)), "--engines", "torch_eager", "--batch", "1"]
    words += ["--rounds", "1", "--items", "2", "--steps", "2", "--threads", "1"]
    words += ["--skip", "extraction,untapped,memory", "--out", str(tmp_path / "profile")]
    assert main(words) == 0
    assert "torch_eager" in capsys.readouterr().out
    assert list((tmp_path / "profile").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("case", ["sd3", "sd35", "flux-dev", "flux-dev-twice"])
def test_a_run_of_joint_attention_is_intervened_on(
    case: str, finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["intervene", str(finished(case)), *EDITED]) == 0
    assert "pattern" in capsys.readouterr().out
    summary = finished(case) / "interventions" / "saliency" / "summary.json"
    assert json.loads(summary.read_text(encoding="utf-8"))


def test_a_transformer_is_probed_from_its_folder(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    words = ["run", "--model", str(folder("sd3")), *SMALL, "--layers", "block0", "--steps", "2"]
    assert main([*words, "--random-networks", "0", "--out", str(tmp_path / "run")]) == 0
    assert "block0" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["layers"] == ["block0"]
