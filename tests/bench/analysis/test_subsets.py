"""Scores on subsets of the test images, against means over images chosen by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.analysis.findings import findings_of
from bench.analysis.subsets import subsets
from bench.report.tables import subset_lines
from bench.runs.results import Results
from datasets.leaks import normalised


def test_prompts_are_grouped_by_their_likeness_to_training_prompts(small_run: Results) -> None:
    task = small_run.tasks["saliency"]
    overlap, ids = small_run.overlap, small_run.record.test_items
    assert overlap is not None
    assert (len(overlap.equal_items), len(overlap.near_items)) == (overlap.equal, overlap.near)
    found = subsets(small_run, task)
    assert found is not None
    scores = task.score(task.best(network="trained", step=small_run.steps[-1], probe="activations"))
    like = {*overlap.equal_items, *overlap.near_items}
    assert like < set(ids)
    expected = {
        "nearly equal": [at for at, name in enumerate(ids) if name in overlap.near_items],
        "neither": [at for at, name in enumerate(ids) if name not in like],
    }
    # One image has a mean, but no interval.
    assert overlap.equal == 1
    assert [group.name for group in found.prompts] == list(expected)
    for group in found.prompts:
        chosen = expected[group.name]
        assert group.items == len(chosen)
        assert group.score.mean == pytest.approx(np.mean(scores[chosen]))
        assert group.score.low < group.score.mean < group.score.high
    (_, line) = subset_lines(findings_of(small_run), "saliency")
    assert line.startswith(f"by likeness of the prompt to training prompts, {found.layer}: nearly")


def test_equal_prompts_are_those_that_a_search_finds(small_run: Results) -> None:
    from bench.registry import plugin

    items = {item.id: item for item in plugin("dataset", small_run.config.dataset).items()}
    train = {normalised(items[name].prompt) for name in small_run.record.train_items}
    equal = [x for x in small_run.record.test_items if normalised(items[x].prompt) in train]
    assert small_run.overlap is not None
    assert list(small_run.overlap.equal_items) == sorted(equal)


def test_runs_without_a_record_of_prompts_have_no_line(small_run: Results) -> None:
    overlap = small_run.overlap
    assert overlap is not None
    earlier = overlap.model_copy(update={"equal_items": (), "near_items": ()})
    for changed in (None, earlier):
        record = small_run.record.model_copy()
        results = replace(small_run, record=record, overlap=changed)
        found = subsets(results, results.tasks["saliency"])
        assert found is not None
        assert found.prompts == ()
        assert found.sizes
