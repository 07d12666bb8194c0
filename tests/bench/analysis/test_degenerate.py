"""Labels that leave nothing to predict are told before any score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.analysis.degenerate import degenerate_labels
from bench.report.summary import summary_lines
from bench.report.tables import print_run
from bench.runs.results import Results

START = "degenerate labels: "


def masked(results: Results, area: float, share: float) -> Results:
    """The run with masks of one area in a share of its test images."""
    foreground = np.full_like(results.foreground, 0.3)
    foreground[: round(share * len(foreground))] = area
    return replace(results, foreground=foreground)


def scored(results: Results, task: str, change: Any) -> Results:
    """The run with other scores (cells x metrics x images) of one task."""
    scores = results.tasks[task].scores.copy()
    change(scores, results.tasks[task].metrics)
    return replace(
        results, tasks=results.tasks | {task: replace(results.tasks[task], scores=scores)}
    )


def test_ordinary_labels_are_not_spoken_of(small_run: Results) -> None:
    assert degenerate_labels(small_run) == []


@pytest.mark.parametrize(("area", "word"), [(0.0, "empty"), (1.0, "full")])
def test_masks_without_an_object_or_without_a_background(
    area: float, word: str, small_run: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    count = len(small_run.foreground)
    assert degenerate_labels(masked(small_run, area, 0.3)) == []
    results = masked(small_run, area, 1.0)
    (sentence,) = degenerate_labels(results)
    assert sentence.startswith(f"{START}the mask of the salient object is {word} in {count} of")
    print_run(results)
    printed = capsys.readouterr().out
    assert printed.index(sentence) < printed.index("test images, 95 % intervals")
    assert sentence in summary_lines(results, results.path)


def test_masks_of_both_kinds(small_run: Results) -> None:
    foreground = np.arange(len(small_run.foreground)) % 2 * 1.0
    foreground = foreground[: len(foreground) // 2 * 2]
    found = degenerate_labels(replace(small_run, foreground=foreground))
    assert [sentence.split(" in ")[0].split()[-1] for sentence in found] == ["empty", "full"]


def test_constant_depth(small_run: Results) -> None:
    def flatten(scores: Any, metrics: tuple[str, ...]) -> None:
        scores[:, metrics.index("spearman")] = np.nan

    def one_cell(scores: Any, metrics: tuple[str, ...]) -> None:
        scores[0, metrics.index("spearman")] = np.nan

    (sentence,) = degenerate_labels(scored(small_run, "depth", flatten))
    assert sentence.startswith(f"{START}depth is constant in ")
    assert degenerate_labels(scored(small_run, "depth", one_cell)) == []


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_scores_that_are_the_same_everywhere(value: float, small_run: Results) -> None:
    def same(scores: Any, _: tuple[str, ...]) -> None:
        scores[:, 0] = value

    (sentence,) = degenerate_labels(scored(small_run, "saliency", same))
    assert sentence == (
        f"{START}all probes and controls of saliency have the same scores; check the labeler"
    )
