"""The published recipe compared with ridge on the small run: same images, same probes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from bench.__main__ import main
from bench.adam_vs_ridge.cells import Choice, choose_cells
from bench.adam_vs_ridge.experiment import in_closed_form, score_pair
from bench.adam_vs_ridge.results import (
    RECIPE,
    RecipeComparison,
    read_recipe,
    recipe_rows,
    rows,
)
from bench.errors import UserError
from bench.runs.results import Results, read_results
from datasets.grid import Grid
from probes.edit import Probe
from probes.probe_set import ACTIVATIONS
from probes.ridge import PENALTIES


@pytest.fixture(scope="module")
def run_path(small_run: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run with a comparison in it."""
    path = Path(shutil.copytree(small_run.path, tmp_path_factory.mktemp("recipe") / "run"))
    assert main(["adam-vs-ridge", str(path), "--threads", "1", "--epochs", "4"]) == 0
    return path


@pytest.fixture(scope="module")
def comparison(run_path: Path) -> RecipeComparison:
    stored = read_recipe(run_path)
    assert stored is not None
    return stored


def test_ridge_is_the_runs_own_probe_on_the_runs_own_images(
    small_run: Results, comparison: RecipeComparison
) -> None:
    assert len(comparison.cells) == 6
    for cell in comparison.cells:
        task = small_run.tasks[cell.task]
        (stored,) = task.where(
            network="trained", probe=ACTIVATIONS, layer=cell.layer, step=cell.step - 1
        )
        for pair in cell.scores:
            scores = np.array([np.nan if x is None else x for x in pair.ridge_scores])
            np.testing.assert_allclose(scores, task.score(stored, pair.metric), atol=1e-3)
        assert cell.regenerated_difference < 1e-3
        # What is timed is what the run did.
        assert cell.refit_difference < 1e-3


def test_figures_follow_from_the_scores_of_every_image(
    small_run: Results, comparison: RecipeComparison
) -> None:
    assert comparison.train_images == len(small_run.record.train_items)
    assert comparison.test_images == len(small_run.record.test_items)
    assert comparison.epochs == 4
    for cell in comparison.cells:
        headline = cell.scores[0]
        sign = 1 if headline.higher_is_better else -1
        ridge, adam = np.array(headline.ridge_scores, float), np.array(headline.adam_scores, float)
        assert headline.gain[0] == pytest.approx(sign * (ridge - adam).mean())
        assert headline.gain[1] <= headline.gain[0] <= headline.gain[2]
        assert cell.adam_by_epoch[-1] == pytest.approx(headline.adam)
        assert cell.least_test_loss_epoch == 1 + int(np.argmin(cell.test_loss))
        assert cell.least_test_loss_score == cell.adam_by_epoch[cell.least_test_loss_epoch - 1]
        assert len(cell.train_loss) == len(cell.test_loss) == 4
        assert cell.adam_seconds is not None
        assert min(cell.ridge_seconds, cell.adam_seconds, cell.published_seconds) > 0


def test_a_gain_is_above_zero_where_ridge_is_better_whichever_way_the_metric_points() -> None:
    better, worse = np.full(9, 0.2) + np.arange(9) / 100, np.full(9, 0.5)
    assert score_pair("rmse", False, better, worse).gain[1] > 0
    assert score_pair("dice", True, better, worse).gain[2] < 0
    gap = score_pair("ap", True, np.array([np.nan, 0.5, 0.6]), np.array([0.1, 0.4, 0.5]))
    assert gap.ridge_scores[0] is None
    assert gap.gain[0] == pytest.approx(0.1)


def test_the_table_has_a_row_per_cell_and_a_second_for_masks(
    run_path: Path, comparison: RecipeComparison
) -> None:
    table = recipe_rows(run_path)
    assert table is not None
    masks = sum(cell.task == "saliency" for cell in comparison.cells)
    assert len(table) == 6 + masks
    assert sum(row["score"].startswith("average_precision") for row in table) == masks
    first = comparison.cells[0]
    assert table[0]["Adam"] == f"{first.scores[0].adam:.3f}"
    assert first.adam_seconds is not None
    assert table[0]["Adam, blocks"] == f"{first.adam_seconds / first.ridge_seconds:.3g} x"
    assert any("chosen on test labels" in note for note in comparison.notes)
    # A fit that was stored by a command with other threads has no time to compare.
    (untimed, *_) = rows([first.model_copy(update={"adam_seconds": None})])
    assert untimed["Adam, blocks"] == "-"


def test_the_timed_ridge_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = [torch.randn(3, 16, 5, generator=generator) for _ in range(5)]
    targets = [torch.randn(3, 8, 8, generator=generator) for _ in range(5)]
    fit = in_closed_form(blocks, targets, range(5), Grid(4, 4))
    rows = torch.cat(blocks).flatten(0, 1).double().numpy()
    means = (
        torch.nn.functional.avg_pool2d(torch.cat(targets)[:, None].double(), 2).flatten().numpy()
    )
    alpha = PENALTIES[int(fit.penalty_index[0])] * ((rows - rows.mean(0)) ** 2).sum(0).mean()
    oracle = Ridge(alpha=alpha).fit(rows, means)
    np.testing.assert_allclose(fit.weights[:, 0].numpy(), oracle.coef_, rtol=1e-6, atol=1e-12)


def test_cells_are_the_best_by_loss_on_training_images(small_run: Results) -> None:
    best = choose_cells(small_run, Choice(cells=4))
    sites = [(entry.task, entry.cell.step) for entry in best]
    assert sites == [("saliency", 0), ("saliency", 3), ("depth", 0), ("depth", 3)]
    for entry in best:
        task = small_run.tasks[entry.task]
        assert entry.cell == task.best(network="trained", step=entry.cell.step, probe=ACTIVATIONS)
    more = choose_cells(small_run, Choice(cells=5))
    cells = {(entry.task, entry.cell) for entry in best}
    (second,) = [entry for entry in more if (entry.task, entry.cell) not in cells]
    assert (second.task, second.cell.step) == ("saliency", 0)
    one_task = choose_cells(
        small_run, Choice(cells=99, tasks=("depth",), layers=("up2",), steps=(2, 3))
    )
    assert [entry.site for entry in one_task] == [("up2.1", 1), ("up2.1", 2)]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(layers=("up9",)), "no probes of layer 'up9'; it has mid.0, up2.1, up3.0"),
        (Choice(steps=(9,)), "no probes of step 9; it has 1, 2, 3, 4"),
        (Choice(tasks=("normals",)), "has no probes of 'normals'; it has saliency, depth"),
    ],
)
def test_what_the_run_has_not_is_refused(small_run: Results, choice: Choice, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_cells(small_run, choice)


def test_maps_of_several_channels_are_refused(
    small_run: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.runs.probes import StoredProbes

    own = StoredProbes._get

    def three(self: StoredProbes, layer: str, step: int, draw: int = 0) -> Probe:
        probe = own(self, layer, step, draw)
        return replace(
            probe,
            weights=probe.weights.expand(-1, 3),
            intercept=probe.intercept.expand(3),
            pattern=probe.pattern.expand(-1, 3),
        )

    monkeypatch.setattr(StoredProbes, "_get", three)
    with pytest.raises(UserError, match="maps of one channel, and depth has more"):
        choose_cells(small_run, Choice(tasks=("depth",)))


def test_tasks_of_whole_images_are_refused(small_run: Results) -> None:
    depth = small_run.tasks["depth"]
    pooled = replace(depth, cells=tuple(replace(cell, grid=Grid(1, 1)) for cell in depth.cells))
    with pytest.raises(UserError, match="depth is of whole images"):
        choose_cells(replace(small_run, tasks={"depth": pooled}), Choice())


def test_mistakes_are_said_in_a_sentence(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adam-vs-ridge", str(copied_run), "--cells", "0"]) == 2
    assert "cells must be at least 1, not 0" in capsys.readouterr().err
    assert recipe_rows(copied_run) is None
    (copied_run / RECIPE).write_text(json.dumps({"schema": 1, "cells": 3}))
    with pytest.raises(UserError, match="cannot be read"):
        recipe_rows(copied_run)
    (copied_run / "run.json").unlink()
    with pytest.raises(UserError, match="unfinished run"):
        read_results(copied_run)
