"""The three sentences that open a page are true of runs with an effect and without one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bench.analysis.findings import findings_of
from bench.report.opening import opening
from bench.runs.results import Results
from probes.bootstrap import score_of
from probes.probe_set import ACTIVATIONS, PERMUTED, WITH_POSITION, Cell
from tests.synthetic_run import made_run, quality


def said(results: Results) -> list[str]:
    return opening(results, findings_of(results))


def null(_: str, cell: Cell) -> float:
    """Nothing is better than any control."""
    return 0.5


def test_figures_are_those_of_the_run(small_run: Results) -> None:
    first, second, third = said(small_run)
    task = small_run.tasks["saliency"]
    best = task.best(network="trained", step=3, probe=ACTIVATIONS)
    assert first.startswith(
        f"At step 4 of 4 the best layer's probe scores {score_of(task.score(best))}"
    )
    assert f"(dice; {best.layer}), better than the 0." in first
    assert "for depth (rmse (std), lower is better; " in first
    assert "saliency has 90 % of its final gain over position alone (" in second.lower()
    rows = findings_of(small_run).comparisons
    held = sum(row.gain.mean > 0 and row.q <= 0.05 for row in rows)
    counted = re.match(r"(All|None of|\d+ of) (\d+) comparisons with controls favour", third)
    assert counted is not None
    named = {"All": len(rows), "None of": 0}
    assert int(counted[2]) == len(rows) > 0
    assert named.get(counted[1]) == held or counted[1] == f"{held} of"


def test_an_effect_in_every_comparison(made: Results) -> None:
    first, second, third = said(made)
    assert first.startswith("At step 5 of 15 the best layer's probe scores ")
    assert first.count("), better than the 0.") == 2
    assert second.startswith("Saliency has 90 % of its final gain over position alone (")
    assert second.count("from step 1 [1, 1] on") == 2
    rows = findings_of(made).comparisons
    assert third.startswith(f"All {len(rows)} comparisons with controls favour")
    # The gain whose interval comes nearest to zero, in widths of the gain.
    least = max(rows, key=lambda row: (row.gain.mean - row.gain.low) / row.gain.mean)
    named = f"{least.task} at step {least.step + 1} against {least.what} ({least.gain})."
    assert third.endswith(f"the least certain gain is that of {named}")


@pytest.fixture
def made() -> Results:
    return made_run()


def test_no_effect_at_all() -> None:
    results = made_run(null)
    first, second, third = said(results)
    assert first.count("not significantly better than the 0.") == 2
    gain = findings_of(results).emergence["saliency"].final
    assert second.startswith(
        f"For saliency no gain over position alone was seen at the last step ({gain})"
    )
    assert "for depth no gain over position alone was seen" in second
    rows = findings_of(results).comparisons
    assert third.startswith(f"None of {len(rows)} comparisons with controls favour")
    assert f"{len(rows) - 2} more comparisons are below" in third


def test_some_effects_are_named_as_missing() -> None:
    def depth_fails(task: str, cell: Cell) -> float:
        return null(task, cell) if task == "depth" else quality(task, cell)

    first, second, third = said(made_run(depth_fails))
    assert "better than" in first.split("; ")[1]
    assert first.count("not significantly better") == 1
    assert second.startswith("Saliency has 90 %")
    assert "for depth no gain over position alone was seen" in second
    assert " without a significant gain for depth at step 5 against " in third


def test_steps_that_were_not_probed_are_not_named() -> None:
    results = made_run()
    sparse = results.record.model_copy(update={"steps": (2, 4, 9, 14)})
    _, second, _ = said(replace(results, record=sparse))
    assert second.count(" from one of steps 1 to 3 [1, 3] on") == 2


def test_a_run_without_permuted_labels_says_so() -> None:
    results = made_run()
    tasks = {
        name: replace(
            task,
            cells=tuple(
                replace(cell, probe="other") if cell.probe == PERMUTED else cell
                for cell in task.cells
            ),
        )
        for name, task in results.tasks.items()
    }
    first, *_ = said(replace(results, tasks=tasks))
    assert first.count("without permuted labels to compare with") == 2


def test_further_tasks_are_counted() -> None:
    first, second, _ = said(made_run(tasks=("saliency", "depth", "normals", "shadow")))
    assert first.endswith("; 2 more tasks are below.")
    assert second.endswith("; 2 more tasks are below.")


def test_tasks_of_whole_images_are_compared_with_the_mean_label() -> None:
    results = made_run(tasks=("colour",))
    cells = tuple(cell for cell in results.tasks["colour"].cells if cell.probe != WITH_POSITION)
    kept = [results.tasks["colour"].cells.index(cell) for cell in cells]
    task = results.tasks["colour"]
    task = replace(
        task,
        cells=cells,
        cv_loss=task.cv_loss[kept],
        thresholds=task.thresholds[kept],
        scores=task.scores[kept],
    )
    results = replace(results, tasks={"colour": task})
    _, second, _ = said(results)
    assert second.startswith("Colour has 90 % of its final gain over the mean training label")
