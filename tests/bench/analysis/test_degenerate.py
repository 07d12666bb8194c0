"""Labels that leave nothing to predict are told before any score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.analysis.degenerate import degenerate_labels
from bench.report.summary import summary_lines
from bench.report.tables import caveats, print_run
from bench.runs.results import Results
from probes.probe_set import FOREGROUND

START = "degenerate labels: "


def masked(results: Results, areas: Any, task: str = "saliency") -> Results:
    """The run with masks of these areas, one per test image."""
    (cell,) = results.tasks[task].where(network=FOREGROUND)

    def change(scores: Any, metrics: tuple[str, ...]) -> None:
        # Dice of a mask with the whole image.
        row = scores[results.tasks[task].row(cell)]
        row[metrics.index("dice")] = 2 * areas / (1 + areas)

    return replace(scored(results, task, change), foreground=areas)


def areas_of(results: Results, area: float, share: float) -> Any:
    """Areas of which a share are the same."""
    areas = np.full_like(results.foreground, 0.3)
    areas[: round(share * len(areas))] = area
    return areas


def same(scores: Any, _: tuple[str, ...]) -> None:
    scores[:, 0] = 1.0


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
    assert degenerate_labels(masked(small_run, areas_of(small_run, area, 0.3))) == []
    results = masked(small_run, areas_of(small_run, area, 1.0))
    (sentence,) = degenerate_labels(results)
    assert sentence.startswith(f"{START}the mask of saliency is {word} in {count} of {count} test")
    assert [line for line in caveats(results) if "mask" in line] == [sentence]
    print_run(results)
    printed = capsys.readouterr().out
    assert printed.index(sentence) < printed.index("test images, 95 % intervals")
    assert sentence in summary_lines(results, results.path)


def test_masks_of_both_kinds(small_run: Results) -> None:
    areas = np.arange(len(small_run.foreground)) % 2 * 1.0
    assert len(areas) % 2 == 0
    found = degenerate_labels(masked(small_run, areas))
    assert [sentence.split(" in ")[0].split()[-1] for sentence in found] == ["empty", "full"]


def test_constant_depth(small_run: Results) -> None:
    def flatten(scores: Any, metrics: tuple[str, ...]) -> None:
        scores[:, metrics.index("spearman")] = np.nan

    def one_cell(scores: Any, metrics: tuple[str, ...]) -> None:
        scores[0, metrics.index("spearman")] = np.nan

    (sentence,) = degenerate_labels(scored(small_run, "depth", flatten))
    assert sentence.startswith(f"{START}depth is constant in ")
    assert degenerate_labels(scored(small_run, "depth", one_cell)) == []


def test_masks_are_those_of_thresholded_tasks(small_run: Results) -> None:
    results = masked(small_run, areas_of(small_run, 0.0, 1.0))
    depth = {"depth": small_run.tasks["depth"]}
    assert degenerate_labels(replace(results, tasks=depth)) == []
    assert not any("mask" in line for line in caveats(replace(results, tasks=depth)))


def test_masks_of_shadows_are_their_own(small_run: Results) -> None:
    empty = masked(small_run, areas_of(small_run, 0.0, 0.6)).tasks["saliency"]
    tasks = {"saliency": small_run.tasks["saliency"], "shadow": replace(empty, name="shadow")}
    (sentence,) = degenerate_labels(replace(small_run, tasks=tasks))
    assert sentence.startswith(f"{START}the mask of shadow is empty in ")


def test_a_finding_of_one_task_hides_none_of_another(small_run: Results) -> None:
    light = {"light": replace(scored(small_run, "depth", same).tasks["depth"], name="light")}
    results = masked(small_run, areas_of(small_run, 0.0, 0.6))
    for tasks in (results.tasks | light, light | results.tasks):
        found = degenerate_labels(replace(results, tasks=tasks))
        assert len(found) == 2
        assert any(sentence.startswith(f"{START}the mask of saliency") for sentence in found)
        assert any("controls of light have the same scores" in sentence for sentence in found)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_scores_that_are_the_same_everywhere(value: float, small_run: Results) -> None:
    def equal(scores: Any, _: tuple[str, ...]) -> None:
        scores[:, 0] = value

    (sentence,) = degenerate_labels(scored(small_run, "depth", equal))
    assert sentence == (
        f"{START}all probes and controls of depth have the same scores; check the labeler"
    )
