"""The Python interface to a run: data frames, arrays with named axes, figures, and refusals."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.__main__ import main
from bench.errors import UserError
from bench.runs.read import Run, read_run
from bench.runs.results import Results

NOTEBOOK = Path(__file__).parents[3] / "docs" / "notebook.md"


@pytest.fixture(scope="module")
def run(small_run: Results) -> Run:
    return read_run(small_run.path)


def test_a_run_has_its_options_and_record(run: Run, small_config: dict[str, object]) -> None:
    assert {name: getattr(run.config, name) for name in small_config} == small_config
    assert len(run.scores("depth").coords["item"]) == len(run.record.test_items)
    assert run.record == run.results.record


def test_every_axis_has_its_coordinates(run: Run) -> None:
    for name, task in run.results.tasks.items():
        scores = run.scores(name)
        for coord, values in scores.coords.items():
            axis = scores.dims.index(coord) if coord in scores.dims else 0
            assert values.shape == (scores.values.shape[axis],)
        for index, cell in list(enumerate(task.cells))[::11]:
            assert scores.coords["layer"][index] == cell.layer
            assert scores.coords["step"][index] == cell.step + 1
            np.testing.assert_array_equal(scores.values[index, 0], task.score(cell))


def test_scores_are_selected_by_their_coordinates(run: Run) -> None:
    task = run.results.tasks["saliency"]
    (cell,) = task.where(network="trained", layer="up3.0", step=2, probe="activations")
    scores = run.scores("saliency").select(
        network="trained", layer="up3.0", step=3, probe="activations", metric="average_precision"
    )
    assert scores.values.shape == (1, 1, task.scores.shape[-1])
    np.testing.assert_array_equal(scores.values[0, 0], task.score(cell, "average_precision"))
    item = scores.coords["item"][5]
    assert scores.select(item=item).values.item() == scores.values[0, 0, 5]


def test_several_values_of_a_coordinate_are_selected(run: Run) -> None:
    scores = run.scores("saliency").select(
        network="trained", layer=["up3.0", "mid.0"], step=[1, 3], probe="activations"
    )
    assert len(scores.values) == 4
    assert set(scores.coords["layer"]) == {"up3.0", "mid.0"}
    assert set(scores.coords["step"]) == {1, 3}


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ({"layr": "mid"}, "there is no coordinate 'layr'; did you mean layer?"),
        ({"layer": "mid", "step": 99}, "there are no scores with layer='mid', step=99"),
    ],
)
def test_coordinates_that_do_not_exist_are_refused(
    run: Run, coords: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        run.scores("depth").select(**coords)


def test_an_unknown_task_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match="the run has no task 'deth'; did you mean depth"):
        run.scores("deth")


def test_a_folder_that_is_no_finished_run_is_refused(copied_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        read_run(tmp_path)
    (copied_run / "run.json").unlink()
    with pytest.raises(UserError, match="is an unfinished run"):
        read_run(str(copied_run))


def test_cells_are_those_of_the_table(run: Run) -> None:
    cells = run.cells
    assert len(cells) == sum(len(task.cells) for task in run.results.tasks.values())
    row = cells.query("task == 'depth' and network == 'trained' and layer == 'up3.0' and step == 4")
    scores = run.scores("depth").select(
        network="trained", layer="up3.0", step=4, probe="activations", metric="rmse"
    )
    (rmse,) = row[row.probe == "activations"].rmse
    assert rmse == pytest.approx(scores.values.mean(), rel=1e-5)
    assert cells[cells.network == "position"].step.isna().all()


def test_the_summary_has_the_best_layer_of_every_step(run: Run) -> None:
    summary = run.summary
    assert len(summary) == len(run.results.tasks) * len(run.results.steps)
    for row in summary.itertuples():
        task = run.results.tasks[row.task]
        best = task.best(network="trained", step=row.step - 1, probe="activations")
        assert row.layer == best.layer
        assert row.low <= row.score <= row.high
        assert row.score == pytest.approx(np.nanmean(task.score(best)))
    controls = {"permuted labels", "the latent itself", "permuted weights", "position alone"}
    assert controls <= {*summary.columns}
    assert not summary[[*controls]].isna().any(axis=None)


def test_figures_have_a_panel_per_task(run: Run) -> None:
    layers = run.plot_layers()
    panels = [ax for ax in layers.axes if ax.images]
    assert [panel.get_title() for panel in panels] == [*run.results.tasks]
    for panel, task in zip(panels, run.results.tasks.values(), strict=True):
        values = panel.images[0].get_array()
        assert values.shape == (len(run.results.layers), len(run.results.steps))
        (cell,) = task.where(network="trained", layer="up2.1", step=3, probe="activations")
        assert values[run.results.layers.index("up2.1"), 3] == np.nanmean(task.score(cell))
    emergence = run.plot_emergence()
    assert [ax.get_title() for ax in emergence.axes] == [*run.results.tasks]
    names = {text.get_text() for text in emergence.legends[0].get_texts()}
    assert {"activations", "permuted labels", "position alone"} <= names


def test_the_report_writes_the_heat_map(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "heatmap.png"
    assert main(["report", str(run.path), "--heatmap", str(file)]) == 0
    with Image.open(file) as image:
        assert image.width == 1800


def test_a_heat_map_that_cannot_be_written_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run.path), "--heatmap", "/proc/heatmap.png"]) == 2
    assert "cannot write /proc/heatmap.png" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["pandas", "matplotlib"])
def test_a_missing_extra_is_named(run: Run, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(UserError, match=rf"{module} is not installed; .*scenebench\[plot\]"):
        _ = run.cells if module == "pandas" else run.plot_layers()


def test_the_notebook_of_the_documentation_runs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run.path, tmp_path / "runs" / "notebook")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", NOTEBOOK.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    exec("\n".join(blocks), {"__name__": "notebook"})
    output = capsys.readouterr().out
    assert "lower than permuted labels by" in output
    assert "permuted weights" in output
    assert {file.name for file in tmp_path.glob("*.png")} == {"emergence.png", "layers.png"}
