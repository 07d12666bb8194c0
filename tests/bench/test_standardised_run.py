"""A run with probes of standardised activations: a row of its own, and nothing else moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.analysis.comparisons import baseline_comparisons
from bench.config import Config, config_of
from bench.errors import UserError
from bench.report.html import write_report
from bench.report.tables import layer_rows, print_run
from bench.run import run
from bench.runs.results import Results, read_results
from datasets.grid import WHOLE
from probes.bootstrap import paired_difference
from probes.probe_set import ACTIVATIONS, STANDARDISED

OPTIONS: dict[str, object] = {
    "limit": 16,
    "sampler_steps": 2,
    "layers": ("mid",),
    "random_networks": 0,
    "threads": 1,
    "tasks": ("saliency", "depth", "light"),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """A run without, and one with standardised activations."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        run(Config(**OPTIONS, baselines=names, out=str(folder / str(len(names))))).path
        for names in ((), (STANDARDISED,))
    ]
    return read_results(runs[0]), read_results(runs[1])


def test_the_other_cells_keep_their_scores(pair: tuple[Results, Results]) -> None:
    plain, both = pair
    assert both.record.networks == plain.record.networks
    for name, task in plain.tasks.items():
        other = both.tasks[name]
        added = [cell for cell in other.cells if cell not in task.cells]
        assert {cell.probe for cell in added} == {STANDARDISED}
        assert len(added) == len(both.layers) * len(both.steps)
        assert {cell.grid == WHOLE for cell in added} == {name == "light"}
        for cell in task.cells:
            before, after = task.score(cell), other.score(cell)
            assert np.array_equal(before, after, equal_nan=True), cell


def test_activations_are_compared_with_them_in_tables_and_report(
    pair: tuple[Results, Results], capsys: pytest.CaptureFixture[str]
) -> None:
    plain, both = pair
    assert baseline_comparisons(plain) == []
    rows = baseline_comparisons(both)
    assert {(row.task, row.step) for row in rows} == {(t, s) for t in both.tasks for s in (0, 1)}
    for row in rows:
        assert row.what == "the same activations, standardised"
        task = both.tasks[row.task]
        cells = [
            task.best(network="trained", step=row.step, probe=probe)
            for probe in (ACTIVATIONS, STANDARDISED)
        ]
        assert None not in cells
        own, unit = (task.sign() * task.score(cell) for cell in cells if cell is not None)
        assert row.gain.mean == pytest.approx(float(paired_difference(own, unit).mean[0]))
    for task in both.tasks.values():
        assert all(STANDARDISED in row for row in layer_rows(both, task))
    print_run(both)
    page = write_report(both).read_text(encoding="utf-8")
    for text in (capsys.readouterr().out, page):
        assert "the same activations, standardised" in text


def test_they_are_named_and_not_part_of_all() -> None:
    assert STANDARDISED not in config_of({"baselines": ["all"]}).baselines
    assert config_of({"baselines": ["all", STANDARDISED]}).baselines[-1] == STANDARDISED
    with pytest.raises(UserError, match="did you mean standardised"):
        config_of({"baselines": ["standardized"]})


def test_their_probes_are_stored(pair: tuple[Results, Results]) -> None:
    table = (Path(pair[1].path) / "cells.csv").read_text(encoding="utf-8")
    assert f",{STANDARDISED},0," in table
