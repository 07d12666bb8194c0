"""The paper's procedure, a ControlNet and maps of where and when, on the small run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from bench.__main__ import main
from bench.interventions.arms import EDIT, LATE, NULL, RANDOM, UNMOVED
from bench.interventions.maps import Maps, reading_map, windows_of
from bench.interventions.records import read_summary
from bench.runs.results import Results
from extract.taps import layers_by_block
from probes.probe_set import ACTIVATIONS, PERMUTED

ONE_TARGET = [
    *("--items", "2", "--choose-items", "2"),
    *("--steps", "1-2", "--late-steps", "4", "--threads", "1"),
]
FEW = [*ONE_TARGET, "--shifts", "2"]


def test_the_papers_procedure_and_a_controlnet_stand_in_the_same_table(
    small_run: Results,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Path(shutil.copytree(small_run.path, tmp_path / "run"))
    arguments = [
        *("intervene", str(path), *FEW, "--methods", "pattern,published,controlnet"),
        *("--strengths", "pattern=8", "--strengths", "controlnet=1"),
        *("--layers", "up2.1", "--shifts", "1"),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "published: the paper's probes and the paper's edit" in printed
    summary = read_summary(path, "saliency")
    assert summary is not None
    arms = {(arm.method, arm.control): arm for arm in summary.arms}
    assert set(arms) == {
        (NULL, NULL),
        *(
            (method, x)
            for method in ("pattern", "published")
            for x in (EDIT, RANDOM, PERMUTED, LATE)
        ),
        *(("controlnet", x) for x in (EDIT, RANDOM, UNMOVED, LATE)),
    }
    # A network that is made to steer moves the object, and the unmoved mask does not.
    moved, unmoved = (arms["controlnet", x].scores for x in (EDIT, UNMOVED))
    assert moved["dice_shifted"][0] > 0.7
    assert unmoved["dice_original"][0] > 0.7
    # The ceiling is never the edit that the experiment chooses.
    assert summary.chosen.method != "controlnet"
    assert set(summary.seconds_by_method) == {"pattern", "published", "controlnet"}
    assert {(contest.first, contest.second) for contest in summary.contests} == {
        ("pattern", "published"),
        ("pattern", "controlnet"),
        ("published", "controlnet"),
    }
    fits = sorted(path.glob("interventions/published/*/*.safetensors"))
    layers, edited, late = 1, 2, 1
    assert len(fits) == layers * (2 * edited + late)

    def refuse(*_: object) -> None:
        raise AssertionError("fitted or generated again")

    monkeypatch.setattr("bench.adam_vs_ridge.fits.train", refuse)
    monkeypatch.setattr("bench.interventions.generator.ImageGenerator._generate", refuse)
    assert main(arguments) == 0


def test_depth_is_pushed_away_by_a_controlnet_and_stored_apart(
    small_run: Results, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(small_run.path, tmp_path / "run"))
    arguments = [
        *("intervene", str(path), *ONE_TARGET, "--task", "depth", "--target", "farther"),
        *("--methods", "controlnet,weights", "--strengths", "controlnet=1"),
        *("--strengths", "0.4", "--controls", "random"),
    ]
    assert main(arguments) == 0
    assert read_summary(path, "depth") is None
    summary = read_summary(path, "depth-farther")
    assert summary is not None
    arms = {(arm.method, arm.control): arm.scores for arm in summary.arms}
    # A labeler may read another scale in the edited image: the headline is the aligned error.
    assert summary.headline == "rmse_aligned_shifted"
    assert arms["controlnet", EDIT][summary.headline][0] < arms[NULL, NULL][summary.headline][0]
    # The object is smaller where it is farther away.
    assert arms["controlnet", EDIT]["area_ratio"][0] < 0.9


def test_maps_of_reading_and_acting(
    small_run: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copytree(small_run.path, tmp_path / "run"))
    figure = tmp_path / "maps.png"
    arguments = [
        *("intervene", str(path), "--map", "--items", "2", "--shifts", "1", "--threads", "1"),
        *("--figure", str(figure)),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "rank correlation of the two maps over 6 cells, 2 items: " in printed
    assert "without an interval (it needs 8 items or more)" in printed
    stored = json.loads((path / "interventions" / "saliency" / "maps.json").read_text())
    assert stored["blocks"] == ["mid", "up2", "up3"]
    assert stored["windows"] == [[1, 2, 3], [4]]
    assert np.array(stored["acting"]).shape == np.array(stored["reading"]).shape == (3, 2, 3)
    with Image.open(figure) as image:
        assert image.size[0] > 1000


def test_the_reading_map_is_the_mean_over_a_cells_layers_and_steps(small_run: Results) -> None:
    blocks, windows = layers_by_block(small_run.layers), windows_of(small_run.steps)
    items = small_run.record.test_items[3:7]
    values = reading_map(small_run, "depth", blocks, windows, items)
    assert values.shape == (4, len(blocks), len(windows))
    task = small_run.tasks["depth"]

    def rmse(probe: str, step: int) -> np.ndarray:
        cells = task.where(network="trained", layer="up2.1", step=step, probe=probe)
        assert len(cells) == (5 if probe == PERMUTED else 1)
        return np.mean([task.score(cell, "rmse_aligned")[3:7] for cell in cells], axis=0)

    gaps = [rmse(PERMUTED, step) - rmse(ACTIVATIONS, step) for step in windows[0]]
    np.testing.assert_allclose(values[:, list(blocks).index("up2"), 0], np.mean(gaps, axis=0))


def maps_of(reading: np.ndarray, acting: np.ndarray) -> Maps:
    rows, columns = reading.shape[1:]
    return Maps(
        {str(row): (str(row),) for row in range(rows)},
        [(step,) for step in range(columns)],
        reading,
        acting,
    )


def test_maps_that_agree_are_correlated() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4, 3))
    noise = rng.normal(0, 0.3, (2, 30, 4, 3))
    same = maps_of(truth + noise[0], 2 * truth + noise[1]).correlation()
    assert same.score.low > 0.8
    expected = spearmanr((truth + noise[0]).mean(0).ravel(), (2 * truth + noise[1]).mean(0).ravel())
    assert same.score.mean == pytest.approx(expected.statistic)
    other = maps_of(truth + noise[0], noise[1]).correlation()
    assert other.score.low < 0 < other.score.high


def test_undefined_scores_are_left_out() -> None:
    rng = np.random.default_rng(0)
    reading, acting = rng.normal(size=(2, 9, 4, 3))
    reading[0, 1, 1] = np.nan
    acting[:, 2, 2] = np.nan
    means = [np.nanmean(np.delete(x.reshape(9, 12), 8, 1), 0) for x in (reading, acting)]
    found = maps_of(reading, acting).correlation().score
    assert found.mean == pytest.approx(spearmanr(*means).statistic)


def test_the_interval_covers_the_correlation_without_noise() -> None:
    rng = np.random.default_rng(0)
    covered, by_percentiles, biases = [], [], []
    for _ in range(20):
        truth = rng.normal(size=(4, 3))
        reading, acting = truth + rng.normal(size=(2, 10, 4, 3))
        found = maps_of(reading, acting).correlation()
        # Without noise the two maps are the same: their correlation is 1.
        covered.append(found.score.high >= 1)
        biases.append(found.bias)
        drawn = [
            spearmanr(reading[rows].mean(0).ravel(), acting[rows].mean(0).ravel()).statistic
            for rows in rng.integers(10, size=(200, 10))
        ]
        by_percentiles.append(np.quantile(drawn, 0.975) >= 1)
    assert np.mean(covered) >= 0.9
    assert np.mean(by_percentiles) < 0.5
    assert np.mean(biases) < -0.02


def test_few_items_give_no_interval() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4, 3))
    for items, defined in ((7, False), (8, True)):
        found = maps_of(*(truth + rng.normal(size=(2, items, 4, 3)))).correlation()
        assert np.isfinite(found.score.mean)
        assert np.isfinite(found.score.low) == np.isfinite(found.score.high) == defined
        assert ("needs 8 items" in str(found)) != defined
