"""Questions to every cell, on a made-up run and on a real one."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.comparisons import comparisons
from bench.analysis.significance import discoveries
from bench.report.tables import discovery_line, held_line
from bench.runs.results import Results
from probes.multiple_testing import q_values


def test_every_cell_of_the_trained_network_is_asked_once(small_run: Results) -> None:
    cells = len(small_run.tasks) * len(small_run.layers) * len(small_run.steps)
    for asked in discoveries(small_run):
        assert len(set(asked.cells)) == len(asked.cells) == cells
        assert {cell.network for _, cell in asked.cells} == {"trained"}
        assert asked.comparisons == cells
        np.testing.assert_array_equal(asked.q, q_values(asked.p))
        assert discovery_line(asked).startswith(
            f"{asked.held.sum()} of {cells} cells are {asked.question}"
        )


def test_the_gain_is_that_of_the_stored_scores(small_run: Results) -> None:
    permuted, position = discoveries(small_run)
    for asked in (permuted, position):
        for (name, cell), gain in list(zip(asked.cells, asked.gain, strict=True))[::7]:
            task = small_run.tasks[name]
            if asked is permuted:
                draws = task.where(
                    network="trained", layer=cell.layer, step=cell.step, probe="permuted"
                )
                baseline = np.mean([task.score(draw) for draw in draws])
            else:
                (mean_map,) = task.where(network="mean map")
                baselines = [
                    np.mean(task.score(baseline))
                    for baseline in (task.best(network="position"), mean_map)
                ]
                baseline = max(baselines) if task.higher_is_better[0] else min(baselines)
            expected = np.mean(task.score(cell)) - baseline
            assert gain == pytest.approx(
                expected if task.higher_is_better[0] else -expected, abs=1e-9
            )


def test_all_comparisons_printed_are_one_family(small_run: Results) -> None:
    found = comparisons(small_run)
    np.testing.assert_array_equal(
        [entry.q for entry in found], q_values(np.array([entry.p for entry in found]))
    )
    assert f"{sum(entry.holds for entry in found)} of {len(found)} comparisons hold" in held_line(
        found
    )
