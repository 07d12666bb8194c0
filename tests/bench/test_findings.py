"""Comparisons and emergence, on made-up scores whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.findings import comparisons, emergence, score_of
from bench.results import Results, TaskResults
from probes.bank import ACTIVATIONS, ALWAYS, CEILING, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION, Cell

STEPS = tuple(range(15))
RNG = np.random.default_rng(0)
PICTURES = 120


def made_up(curve: dict[int, float], higher_is_better: bool, noise: float = 0.05) -> Results:
    """A run whose layer ``good`` has these mean scores, on pictures that differ much from each other."""
    sign = 1.0 if higher_is_better else -1.0
    picture = RNG.normal(0, 0.3, PICTURES)
    cells, losses, means = [], [], []
    for step in STEPS:
        for layer, shift in (("bad", -0.3), ("good", 0.0)):
            for probe in (ACTIVATIONS, WITH_POSITION):
                cells.append(Cell("trained", layer, step, probe, 0, 4))
                losses.append(-shift)
                means.append(curve[step] + sign * shift)
            for draw in range(1, 6):
                cells.append(Cell("trained", layer, step, PERMUTED, draw, 4))
                losses.append(1.0)
                means.append(0.2)
        for network in ("random-1", "input"):
            cells.append(Cell(network, "latent", step, ACTIVATIONS, 0, 4))
            losses.append(1.0)
            means.append(0.3)
    for network, loss in ((POSITION, 1.0), (CEILING, np.nan), (MEAN_MAP, np.nan)):
        cells.append(Cell(network, "4x4", ALWAYS, network, 0, 4))
        losses.append(loss)
        means.append(0.2)
    scores = np.array(means)[:, None] + picture + RNG.normal(0, noise, (len(cells), PICTURES))
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
    facts = {"steps": list(STEPS), "layers": ["bad", "good"], "networks": ["trained", "random-1"]}
    return Results(Path(), {}, "", {}, facts, {"t": task}, [], {})


def test_gains_are_paired_and_signed_so_that_better_is_positive() -> None:
    for higher_is_better, level in ((True, 0.6), (False, 0.05)):
        results = made_up(dict.fromkeys(STEPS, level), higher_is_better)
        found = {(entry.step, entry.what): entry for entry in comparisons(results)}
        assert {step for step, _ in found} == {4, 14}
        for entry in found.values():
            truth = abs(level - (0.3 if "latent" in entry.what else 0.2))
            assert entry.ours == "good"
            assert entry.gain.low <= truth + 0.02
            assert entry.gain.high >= truth - 0.02
            assert entry.gain.high - entry.gain.low < 0.05
            assert entry.holds


def test_no_gain_is_not_called_one() -> None:
    results = made_up(dict.fromkeys(STEPS, 0.2), True)
    wrong = [entry for entry in comparisons(results) if entry.what == "permuted labels" and entry.gain.low > 0.01]
    assert not wrong


@pytest.mark.parametrize("first", [1, 4, 9])
def test_emergence_is_the_first_step_near_the_last(first: int) -> None:
    curve = {step: 0.8 if step >= first else 0.3 for step in STEPS}
    found = emergence(made_up(curve, True), made_up(curve, True).tasks["t"])
    assert found.layer == "good"
    assert found.emerged.mean == first + 1
    assert found.emerged.low <= first + 1 <= found.emerged.high
    assert found.share[0].mean == pytest.approx((0.3 - 0.2) / 0.6, abs=0.05)
    assert found.share[-1].mean == 1.0


@pytest.mark.parametrize("first", [0.0, -0.1])
def test_without_a_final_gain_there_is_no_share_and_no_fault(first: float) -> None:
    """Too few pictures make probes that say what the position says: the last step gains exactly nothing."""
    results = made_up(dict.fromkeys(STEPS, 0.2), True)
    task = results.tasks["t"]
    task.scores[:] = 0.5
    for cell in task.where(network="trained", step=0):
        task.scores[task.cells.index(cell)] += first
    found = emergence(results, task)
    assert all(np.isnan(share.mean) for share in found.share[1:])
    assert not np.isfinite(found.share[0].mean)


def test_undefined_scores_are_left_out() -> None:
    values = np.array([0.5, np.nan, 0.7, 0.6])
    assert score_of(values).mean == pytest.approx(0.6)
