"""Tests of every cell, on a small run."""

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
    for answer in discoveries(small_run):
        assert len(set(answer.cells)) == len(answer.cells) == cells
        assert {cell.network for _, cell in answer.cells} == {"trained"}
        assert answer.comparisons == cells
        np.testing.assert_array_equal(answer.q, q_values(answer.p))
        assert discovery_line(answer).startswith(
            f"{answer.held.sum()} of {cells} cells are {answer.question}"
        )


def test_the_gain_is_that_of_the_stored_scores(small_run: Results) -> None:
    permuted, position = discoveries(small_run)
    for answer in (permuted, position):
        for (name, cell), gain in list(zip(answer.cells, answer.gain, strict=True))[::7]:
            task = small_run.tasks[name]
            if answer is permuted:
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
    rows = comparisons(small_run)
    np.testing.assert_array_equal(
        [row.q for row in rows], q_values(np.array([row.p for row in rows]))
    )
    assert f"{sum(row.holds for row in rows)} of {len(rows)} comparisons hold" in held_line(rows)
