"""Counts of a plan against the run that it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from bench.config import Config
from bench.planning.estimate import plan_of
from bench.planning.work import Work
from bench.runs.results import Results
from probes.statistics import sums_of_tensors

POSITION = 14


@pytest.fixture(scope="module")
def work(small_config: dict[str, object]) -> Work:
    return plan_of(Config(**small_config), 0).work


def test_scored_tokens_are_those_of_a_runs_cells(work: Work, small_run: Results) -> None:
    images = len(small_run.record.test_items)
    assert work.scored.keys() == small_run.tasks.keys()
    for name, task in small_run.tasks.items():
        assert work.scored[name] == images * sum(cell.grid.tokens for cell in task.cells)
        assert work.target_pixels[name] == images * 64 * 64
    metrics = {name: len(task.metrics) for name, task in small_run.tasks.items()}
    cells = {name: len(task.cells) for name, task in small_run.tasks.items()}
    assert work.intervals == images * sum(cells[name] * metrics[name] for name in cells)


def test_summed_tokens_are_those_of_a_runs_sums(work: Work, observed_run: Any) -> None:
    from safetensors.torch import load_file

    summed: Counter[int] = Counter()
    for path in observed_run.shards:
        for moments in sums_of_tensors(load_file(path)).moments.values():
            summed[moments.columns] += moments.n * len(moments.mean)
    assert work.summed == summed


def test_eigenproblems_are_counted_as_in_the_run_of_one_layer() -> None:
    """tests/bench/test_eigenproblems.py counts them in the run itself."""
    config = Config(limit=12, sampler_steps=1, layers=("mid",), random_networks=0, threads=1)
    counted = plan_of(config, 0).work
    folds, sites = 5, 3
    assert counted.problems[POSITION] == folds + folds + 1
    # Tasks may have different best layers; there, both have the only one.
    curves = 2 * folds * (folds - 1)
    others = sum(count for width, count in counted.problems.items() if width != POSITION)
    assert others == sites * (folds + folds) + curves


def test_work_grows_with_steps_networks_and_tasks(small_config: dict[str, object]) -> None:
    config = Config(**small_config)
    base = plan_of(config, 0).work
    twice = plan_of(replace(config, sampler_steps=8), 0).work
    assert twice.block_values == 2 * base.block_values
    assert all(twice.read[width] == 2 * base.read[width] for width in base.read)
    more = plan_of(replace(config, random_networks=3), 0).work
    assert sum(more.problems.values()) > sum(base.problems.values())
    images = plan_of(replace(config, tasks=("shape",)), 0).work
    # Tasks of whole images have no token-level sums, and no thresholds.
    assert (sum(images.summed.values()), images.swept) == (0, 0)
