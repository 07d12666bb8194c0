"""The summary of a run: its layout, and figures that are those of the run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.report.summary import summary_lines
from bench.runs.results import Results
from probes.bootstrap import effect_of
from probes.probe_set import ACTIVATIONS, PERMUTED, POSITION, WITH_POSITION

PAGE = Path("runs/name/report.html")


def lines_of(results: Results) -> list[str]:
    """The lines below the warning about prompts that cross the split, which is the first."""
    assert results.overlap is not None
    overlap, *lines = summary_lines(results, PAGE)
    assert [overlap] == results.overlap.sentences
    assert overlap.startswith("5 of 30 test prompts equal (1) or nearly equal (4)")
    return lines


def mean(*scores: np.ndarray) -> str:
    return f"{np.nanmean(scores):.3f}"


def test_it_has_the_layout_of_the_readme(small_run: Results) -> None:
    cost, *lines = lines_of(small_run)
    assert cost.startswith("50 items (")
    assert cost.endswith("on 1 thread with onnxruntime")
    assert lines[-2:] == [
        f"report: {PAGE}",
        f"full tables: python -m bench leaderboard {small_run.path}",
    ]
    words = [line.split()[0] for line in lines[:-2]]
    assert words == ["saliency,", "step", "with", "depth,", "step", "with"]
    assert lines[0].split("  ")[0] == "saliency, Dice"
    assert lines[3].split("  ")[0] == "depth, RMSE (std)"
    # Columns are aligned: every score ends where its heading ends.
    for heading, row in ((lines[0], lines[1]), (lines[3], lines[4])):
        assert len(heading) == len(row)


def test_figures_are_those_of_the_run_folder(small_run: Results) -> None:
    lines = lines_of(small_run)
    for name, at in (("saliency", 2), ("depth", 5)):
        task = small_run.tasks[name]
        best = task.best(network="trained", step=3, probe=ACTIVATIONS)
        permuted = task.where(network="trained", step=3, probe=PERMUTED, layer=best.layer)
        (latent,) = task.where(network="input", step=3, probe=ACTIVATIONS)
        (clean,) = task.where(network="clean", step=3, probe=ACTIVATIONS)
        random = task.best(network="random-1", step=3, probe=ACTIVATIONS)
        assert lines[at].split() == [
            "step",
            "4",
            best.layer,
            mean(task.score(best)),
            mean(*(task.score(cell) for cell in permuted)),
            mean(task.score(latent)),
            mean(task.score(clean)),
            mean(task.score(random)),
        ]
        both = task.best(network="trained", step=3, probe=WITH_POSITION)
        position = task.best(network=POSITION)
        words = lines[at + 1].split()
        assert words[:4] == ["with", "position", both.layer, mean(task.score(both))]
        assert f"position alone {mean(task.score(position))}" in lines[at + 1]


def test_the_early_step_is_step_5_or_the_next_probed_one(small_run: Results) -> None:
    def labels(*steps: int) -> list[str]:
        numbers = dict(zip(range(4), steps, strict=False))
        tasks = {
            name: replace(
                task,
                cells=tuple(
                    replace(cell, step=numbers.get(cell.step, cell.step)) for cell in task.cells
                ),
            )
            for name, task in small_run.tasks.items()
            if name == "depth"
        }
        record = small_run.record.model_copy(update={"steps": steps})
        lines = lines_of(replace(small_run, tasks=tasks, record=record))
        return [line[2:9].strip() for line in lines if line.startswith("  step")]

    assert labels(0, 2, 4, 14) == ["step 5", "step 15"]
    assert labels(0, 2, 9, 14) == ["step 10", "step 15"]
    assert labels(0, 1, 2, 3) == ["step 4"]


def test_a_gain_that_was_not_seen_is_told_with_its_interval(small_run: Results) -> None:
    task = small_run.tasks["saliency"]
    position = task.score(task.best(network=POSITION))
    scores = task.scores.copy()
    change = np.resize([-0.1, 0.12], len(position))
    for cell in task.where(network="trained", step=3, probe=WITH_POSITION):
        scores[task.row(cell), 0] = position + change
    results = replace(small_run, tasks={"saliency": replace(task, scores=scores)})
    gain = effect_of(change)
    assert gain.low < 0 < gain.mean
    assert lines_of(results)[-3].endswith(f"; no gain over it was seen ({gain})")


def test_absent_controls_are_dashes(small_run: Results) -> None:
    record = small_run.record.model_copy(update={"networks": ("input", "trained")})
    tasks = {
        name: replace(
            task,
            cells=tuple(
                replace(cell, probe="other") if cell.probe == PERMUTED else cell
                for cell in task.cells
            ),
        )
        for name, task in small_run.tasks.items()
    }
    lines = lines_of(replace(small_run, record=record, tasks=tasks))
    steps = [line.split() for line in lines if line.startswith("  step")]
    assert steps
    for row in steps:
        assert (row[4], row[7]) == ("-", "-")
