"""The data of a run's interactive page: its scores, noise levels, and readings of classes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bench.report.explorer import explorer_data
from bench.runs.results import Results
from datasets.scenes import COLORS


def test_scores_are_those_of_the_run_and_fit_into_json(small_run: Results) -> None:
    data = json.loads(json.dumps(explorer_data(small_run), allow_nan=False))
    assert data["steps"] == [1, 2, 3, 4]
    assert data["layers"] == list(small_run.layers)
    for entry in data["tasks"]:
        task = small_run.tasks[entry["name"]]
        kinds = {kind["name"]: kind for kind in entry["kinds"]}
        assert list(kinds)[:3] == ["activations", "activations+position", "permuted labels"]
        for row, layer in enumerate(small_run.layers):
            draws = task.where(network="trained", probe="permuted", layer=layer, step=2)
            mean = np.nanmean([task.score(draw) for draw in draws])
            assert kinds["permuted labels"]["mean"][row][2] == pytest.approx(mean, rel=1e-3)
        best = task.best(network="trained", probe="activations", step=3)
        assert small_run.layers[entry["best"][3]] == best.layer
        low, high = (kinds["activations"][end][entry["best"][3]][3] for end in ("low", "high"))
        assert low < np.mean(task.score(best)) < high


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        ((None, -2.518, -0.001, 1.25), ["-inf", "-2.52", "0.00", "1.25"]),
        ((), []),
    ],
)
def test_noise_levels_have_two_decimals(
    small_run: Results, levels: tuple[float | None, ...], shown: list[str]
) -> None:
    record = small_run.record.model_copy(update={"log_snr": levels})
    assert explorer_data(replace(small_run, record=record))["log_snr"] == shown


def test_readings_of_classes_have_their_names_and_the_answer(small_run: Results) -> None:
    task = replace(small_run.tasks["saliency"], name="colour")
    answers = np.eye(len(COLORS), dtype=np.float32)[[2, 0]]
    values = np.linspace(0, 1, 2 * 4 * len(COLORS)).reshape(2, 4, -1).astype(np.float32)
    strips = {"answer/colour": answers, f"vector/colour/activations/{small_run.layers[0]}": values}
    data = explorer_data(replace(small_run, tasks={"colour": task}, strips=strips))
    readings = data["tasks"][0]["readings"]
    assert readings["classes"] == list(COLORS)
    assert readings["answers"] == [2, 0]
    stored = readings["vectors"]["activations"][small_run.layers[0]]
    assert np.allclose(stored, values, atol=0.006)
    assert data["images"] is None
