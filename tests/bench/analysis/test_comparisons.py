"""Comparisons and emergence, on synthetic scores with a known answer."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.comparisons import baseline_comparisons, comparisons
from bench.analysis.emergence import Onset, emergence, onset
from bench.config import Config
from bench.environment import Environment
from bench.report.tables import emergence_line
from bench.runs.curves import family_curve
from bench.runs.records import RunRecord
from bench.runs.results import Results, TaskResults
from datasets.grid import Grid
from probes.bootstrap import Score, score_of
from probes.probe_set import (
    ACTIVATIONS,
    ALWAYS,
    CEILING,
    MEAN_MAP,
    PERMUTED,
    POSITION,
    WITH_POSITION,
    Cell,
)

STEPS = tuple(range(15))
RNG = np.random.default_rng(0)
IMAGES = 120


def synthetic(curve: dict[int, float], higher_is_better: bool, noise: float = 0.05) -> Results:
    """A run whose layer ``good`` has these mean scores, on images that differ much."""
    sign = 1.0 if higher_is_better else -1.0
    image = RNG.normal(0, 0.3, IMAGES)
    cells, losses, means = [], [], []
    for step in STEPS:
        for layer, shift in (("bad", -0.3), ("good", 0.0)):
            for probe in (ACTIVATIONS, WITH_POSITION):
                cells.append(Cell("trained", layer, step, probe, 0, Grid(4, 4)))
                losses.append(-shift)
                means.append(curve[step] + sign * shift)
            for draw in range(1, 6):
                cells.append(Cell("trained", layer, step, PERMUTED, draw, Grid(4, 4)))
                losses.append(1.0)
                means.append(0.2)
        for network in ("random-1", "input"):
            cells.append(Cell(network, "latent", step, ACTIVATIONS, 0, Grid(4, 4)))
            losses.append(1.0)
            means.append(0.3)
    for network, loss in ((POSITION, 1.0), (CEILING, np.nan), (MEAN_MAP, np.nan)):
        cells.append(Cell(network, "4x4", ALWAYS, network, 0, Grid(4, 4)))
        losses.append(loss)
        means.append(0.2)
    scores = np.array(means)[:, None] + image + RNG.normal(0, noise, (len(cells), IMAGES))
    task = TaskResults(
        "t",
        tuple(cells),
        np.array(losses),
        np.full(len(cells), np.nan),
        ("m",),
        (higher_is_better,),
        "",
        scores[:, None],
    )
    record = RunRecord.model_construct(
        steps=tuple(STEPS), layers=("bad", "good"), networks=("trained", "random-1")
    )
    machine = Environment.model_construct()
    areas = np.full(IMAGES, 0.1)
    return Results(Path(), Config(), "", machine, record, {"t": task}, [], {}, areas, {}, None)


def test_gains_are_paired_and_signed_so_that_better_is_positive() -> None:
    for higher_is_better, level in ((True, 0.6), (False, 0.05)):
        results = synthetic(dict.fromkeys(STEPS, level), higher_is_better)
        rows = {(entry.step, entry.what): entry for entry in comparisons(results)}
        assert {step for step, _ in rows} == {4, 14}
        for entry in rows.values():
            truth = abs(level - (0.3 if "latent" in entry.what else 0.2))
            assert entry.layer == "good"
            assert entry.gain.low <= truth + 0.02
            assert entry.gain.high >= truth - 0.02
            assert entry.gain.high - entry.gain.low < 0.05
            assert entry.holds


def test_no_gain_is_not_called_one() -> None:
    results = synthetic(dict.fromkeys(STEPS, 0.2), True)
    wrong = [
        entry
        for entry in comparisons(results)
        if entry.what == "permuted labels" and entry.gain.low > 0.01
    ]
    assert not wrong


@pytest.mark.parametrize("first", [1, 4, 9])
def test_emergence_is_the_first_step_near_the_last(first: int) -> None:
    curve = {step: 0.8 if step >= first else 0.3 for step in STEPS}
    result = emergence(synthetic(curve, True), synthetic(curve, True).tasks["t"])
    assert result.layer == "good"
    assert result.emerged.mean == first + 1
    assert result.emerged.low <= first + 1 <= result.emerged.high
    assert result.share[0].mean == pytest.approx((0.3 - 0.2) / 0.6, abs=0.05)
    assert result.share[-1].mean == 1.0


@pytest.mark.parametrize("first", [0.0, -0.1])
def test_without_a_final_gain_there_is_no_share_and_no_fault(first: float) -> None:
    """Probes of too few images predict what position predicts: the last gain is exactly zero."""
    results = synthetic(dict.fromkeys(STEPS, 0.2), True)
    task = results.tasks["t"]
    task.scores[:] = 0.5
    for cell in task.where(network="trained", step=0):
        task.scores[task.cells.index(cell)] += first
    result = emergence(results, task)
    assert result.final.mean == 0
    assert result.share == ()
    assert result.emerged is None


@pytest.mark.parametrize("level", [0.1, 0.2])
def test_what_gains_nothing_at_the_last_step_does_not_emerge(level: float) -> None:
    results = synthetic(dict.fromkeys(STEPS, level), True)
    # An early gain that is gone at the end is none either.
    task = results.tasks["t"]
    for cell in task.where(network="trained", step=3):
        task.scores[task.cells.index(cell)] += 1
    result = emergence(results, task)
    assert result.final.low <= 0
    assert result.emerged is None
    assert emergence_line(result) == (
        "emergence: no gain of good with position over position was seen at the last step "
        f"({result.final})"
    )


def test_a_draw_without_a_final_gain_has_not_emerged(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its gains are negative, so a share of the final gain is undefined."""
    results = synthetic(dict.fromkeys(STEPS, 0.8), True)
    drawn = np.ones((len(STEPS), 100))
    drawn[:, :10] = -1.0
    monkeypatch.setattr("bench.analysis.emergence.resampled_means", lambda *_: drawn)
    result = emergence(results, results.tasks["t"])
    assert result.emerged is not None
    assert (result.emerged.mean, result.emerged.low, result.emerged.high) == (1, 1, 16)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (0, "step 1 [1, 1]"),
        (1, "step 2 or 3 [2, 3]"),
        (9, "one of steps 6 to 10 [6, 10]"),
    ],
)
def test_steps_that_were_not_probed_are_not_named(first: int, words: str) -> None:
    results = synthetic({step: 0.8 if step >= first else 0.3 for step in STEPS}, True)
    sparse = replace(results, record=results.record.model_copy(update={"steps": (0, 2, 4, 9, 14)}))
    assert f"from {words} on" in emergence_line(emergence(sparse, sparse.tasks["t"]))


@given(st.sets(st.integers(1, 20), min_size=1), st.integers(0, 2**32 - 1))
def test_an_onset_and_its_interval_are_probed_steps_or_never(probed: set[int], seed: int) -> None:
    numbers = sorted(probed)
    drawn = np.random.default_rng(seed).random((len(numbers), 31)) < 0.7
    step = onset(drawn[:, 0], drawn, numbers)
    steps = [*numbers, numbers[-1] + 1]
    assert {step.mean, step.low, step.high} <= set(steps)
    for index, number in enumerate(numbers):
        assert (step.mean <= number) == drawn[index:, 0].all()
    found = Onset(step, tuple(numbers))
    begins, words = found.beginning, found.words()
    assert begins.never == ("never" in words.partition(" [")[0]) == (not drawn[-1, 0])
    if not begins.never:
        assert {begins.before, begins.at} <= probed | {0}
        assert not {*range(begins.before + 1, begins.at)} & probed
        named = [*map(int, re.findall(r"\d+", words.partition(" [")[0]))]
        assert (named[0], named[-1]) == (begins.before + 1, begins.at)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (Score(3.0, 3.0, 3.0), "one of steps 1 to 3 [1, 3]"),
        (Score(3.0, 3.0, 6.0), "one of steps 1 to 3 [1, never]"),
        (Score(4.0, 3.0, 5.0), "step 4 [1, 5]"),
        (Score(6.0, 6.0, 6.0), "never [never, never]"),
    ],
)
def test_an_onset_in_words(score: Score, words: str) -> None:
    assert Onset(score, (3, 4, 5)).words() == words


def test_the_spread_of_seeds_widens_the_gain_over_random_networks() -> None:
    results = synthetic(dict.fromkeys(STEPS, 0.8), True)
    one = next(entry for entry in comparisons(results) if entry.what.startswith("permuted weights"))
    assert one.what == "permuted weights, same latents: this one network"
    task = results.tasks["t"]
    cells, scores = list(task.cells), list(task.scores)
    for number, shift in ((2, 0.2), (3, -0.2)):
        for cell in task.where(network="random-1"):
            cells.append(replace(cell, network=f"random-{number}"))
            scores.append(task.scores[task.cells.index(cell)] + shift)
    columns = {
        name: np.append(getattr(task, name), [1.0] * (len(cells) - len(task.cells)))
        for name in ("cv_loss",)
    }
    more = replace(task, cells=tuple(cells), scores=np.array(scores), **columns)
    networks = [*results.record.networks, "random-2", "random-3"]
    three = next(
        entry
        for entry in comparisons(
            replace(
                results,
                record=results.record.model_copy(update={"networks": networks}),
                tasks={"t": more},
            )
        )
        if entry.what.startswith("permuted weights")
    )
    assert three.what == "permuted weights, same latents"
    assert three.gain.mean == pytest.approx(one.gain.mean)
    # Student's t with two degrees of freedom at a spread of 0.2.
    assert three.gain.mean - three.gain.low == pytest.approx(4.303 * 0.2 * np.sqrt(4 / 3), rel=1e-3)
    curve = family_curve(replace(results, tasks={"t": more}), more, networks[1:])
    alone = family_curve(results, task, ["random-1"])
    assert [step for step, _ in curve] == list(STEPS)
    assert [score.mean for _, score in curve] == pytest.approx([score.mean for _, score in alone])


def test_undefined_scores_are_left_out() -> None:
    values = np.array([0.5, np.nan, 0.7, 0.6])
    assert score_of(values).mean == pytest.approx(0.6)


@pytest.mark.parametrize("recorded", [True, False])
def test_own_latents_are_compared_at_the_first_step_only_where_nothing_else_is_the_same(
    recorded: bool,
) -> None:
    run = synthetic(dict.fromkeys(STEPS, 0.6), True)
    task = run.tasks["t"]
    networks = {"random-1": "random-1" if recorded else "other", "input": "own-1"}
    cells = tuple(
        replace(cell, network=networks.get(cell.network, cell.network)) for cell in task.cells
    )
    record = run.record.model_copy(
        update={"networks": ("trained", "own-1", *(["random-1"] if recorded else []))}
    )
    renamed = replace(run, tasks={"t": replace(task, cells=cells)}, record=record)
    own = [row.step for row in baseline_comparisons(renamed) if "their own latents" in row.what]
    assert own == ([2, 4, 14] if recorded else [0, 2, 4, 14])
