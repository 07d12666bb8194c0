"""Scores at noise levels against numpy's interpolation and the bootstrap of single scores."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.analysis.noise_levels import (
    BestLayers,
    at_log_snr,
    best_layers,
    common_levels,
    compare_at_levels,
)
from bench.report.html import write_report
from bench.report.tables import print_run
from bench.runs.results import Results, read_results
from extract.networks import TRAINED
from probes.bootstrap import paired_difference, score_of
from probes.probe_set import ACTIVATIONS
from probes.unpaired import unpaired_difference

INF = float("inf")
RNG = np.random.default_rng(0)


def with_levels(results: Results, log_snr: list[float | None], sigmas: list[float]) -> Results:
    changes = {"log_snr": tuple(log_snr), "sigmas": tuple(sigmas)}
    return replace(results, record=results.record.model_copy(update=changes))


def test_every_image_is_interpolated_as_by_numpy() -> None:
    scores, levels = RNG.normal(size=(7, 5)), [-5.0, -2.0, 0.5, 1.0, 6.0]
    wanted = [-5.0, -4.9, 0.5, 0.7, 5.9, 6.0]
    expected = [np.interp(wanted, levels, row) for row in scores]
    assert at_log_snr(scores, levels, wanted) == pytest.approx(np.array(expected))
    shuffled = RNG.permutation(5)
    again = at_log_snr(scores[:, shuffled], np.array(levels)[shuffled].tolist(), wanted)
    assert np.array_equal(again, at_log_snr(scores, levels, wanted))


def test_nothing_is_said_outside_the_range_or_next_to_an_infinite_level() -> None:
    scores = RNG.normal(size=(3, 4))
    values = at_log_snr(scores, [-INF, -1.0, 2.0, INF], [-INF, -3.0, -1.0, 0.5, 2.0, 9.0, INF])
    assert np.isnan(values).all(0).tolist() == [False, True, False, False, False, True, False]
    assert np.array_equal(values[:, [0, 2, 4, 6]], scores)
    assert np.isnan(at_log_snr(scores, [0.0, 1.0, 2.0, 3.0], [-0.1, 3.1])).all()


def test_an_undefined_score_makes_only_its_image_undefined() -> None:
    scores = np.array([[0.1, np.nan, 0.3], [0.1, 0.2, 0.3]])
    values = at_log_snr(scores, [0.0, 1.0, 2.0], [0.0, 0.5, 1.5, 2.0])
    assert np.isnan(values).tolist() == [[False, True, True, False], [False] * 4]


def test_runs_with_the_same_levels_are_compared_at_them() -> None:
    levels = (-INF, -2.5, 0.25, 7.0)
    assert common_levels([levels, tuple(level + 1e-9 for level in levels)]) == levels


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((-3.3, 2.9), (-3, -2, -1, 0, 1, 2)),
        ((-0.33, 0.05), (-0.3, -0.2, -0.1, 0.0)),
        ((-30, 40, INF), (-4, -2, 0, 2, 4, 6)),
        ((-INF, 7.5, 8.0), ()),
        ((-INF, -INF), ()),
    ],
)
def test_other_runs_meet_on_round_levels(
    other: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    assert common_levels([(-5.4, 0.0, 7.1), other]) == expected


def test_levels_of_a_run_are_those_of_its_sampler(small_run: Results) -> None:
    assert small_run.log_snr is not None
    assert small_run.sigmas is not None
    # The sampler keeps the clean latent's scale: SNR = 1 / sigma^2.
    assert small_run.log_snr == pytest.approx([-2 * np.log(x) for x in small_run.sigmas])
    odd = with_levels(small_run, [None, -1.0, 2.0, None], [1.0, 0.9, 0.1, 0.0])
    assert odd.log_snr == (-INF, -1.0, 2.0, INF)
    older = with_levels(small_run, [], [])
    assert older.log_snr is None
    assert older.sigmas is None


def test_the_best_layer_of_every_step_is_followed(small_run: Results) -> None:
    task = small_run.tasks["depth"]
    best = best_layers(small_run, task)
    assert best is not None
    assert small_run.log_snr is not None
    for column, (step, level) in enumerate(zip(small_run.steps, small_run.log_snr, strict=True)):
        cell = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
        assert cell is not None
        assert np.array_equal(best.at([level])[:, 0], task.score(cell))
        assert best.layers[column] == cell.layer
        assert best.layers_at(level) == (cell.layer,)


def test_layers_of_both_neighbours_are_named() -> None:
    best = BestLayers(("a", "b", "b"), (0.0, 1.0, 2.0), np.zeros((4, 3)))
    names = [best.layers_at(level) for level in (-1.0, 0.0, 0.5, 1.5, 3.0)]
    assert names == [(), ("a",), ("a", "b"), ("b",), ()]


@pytest.mark.parametrize("shares_items", [True, False])
def test_runs_are_paired_only_where_they_share_items(
    shares_items: bool, small_run: Results
) -> None:
    order = RNG.permutation(len(small_run.record.test_items))
    items = tuple(np.array(small_run.record.test_items)[order].tolist())
    conditions = small_run.record.conditions | ({} if shares_items else {"test items": "other"})
    changes = {"test_items": items, "conditions": conditions}
    shuffled = replace(
        with_levels(small_run, [-6.0, -1.0, 1.0, 3.0], [9.0, 3.0, 1.0, 0.1]),
        tasks={
            name: replace(task, scores=0.9 * task.scores[:, :, order])
            for name, task in small_run.tasks.items()
        },
    )
    other = replace(shuffled, record=shuffled.record.model_copy(update=changes))
    rows = compare_at_levels(small_run, other, [0.0, 2.0, 99.0])
    assert {row.is_paired for row in rows} == {shares_items}
    assert len(rows) == 3 * len(small_run.tasks)
    for row in rows[:2]:
        task = small_run.tasks[row.task]
        a, b = (best_layers(run, run.tasks[row.task]) for run in (small_run, other))
        assert a is not None
        assert b is not None
        mine, theirs = a.at([row.log_snr])[:, 0], b.at([row.log_snr])[:, 0]
        theirs = theirs[np.argsort(order)] if shares_items else theirs
        assert row.scores == (score_of(mine), score_of(theirs))
        difference = paired_difference if shares_items else unpaired_difference
        gap = difference(task.sign() * theirs, task.sign() * mine)
        assert row.difference.low == pytest.approx(gap.low[0])
        assert row.p == gap.p[0]
        assert row.q >= row.p
    assert np.isnan(rows[2].difference.mean)
    assert not rows[2].is_significant


def test_tables_show_noise_levels_beside_steps_or_in_their_place(
    small_run: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_run.log_snr is not None
    first, last = (f"{small_run.log_snr[index]:.2f}" for index in (0, -1))
    printed = {}
    for by in ("step", "log-snr"):
        for form in ("simple", "github"):
            assert main(["leaderboard", str(small_run.path), "--by", by, "--format", form]) == 0
            printed[by, form] = capsys.readouterr().out
    header = [line.split() for line in printed["step", "simple"].splitlines()]
    assert ["log-SNR", first, last] in header
    assert any(line.startswith("| log-SNR") for line in printed["step", "github"].splitlines())
    assert f"log-SNR {last}" in printed["log-snr", "simple"]
    assert f"log-SNR {last}" in printed["log-snr", "github"]
    assert "| step" not in printed["log-snr", "github"]
    page = re.sub(r' scope="\w+"', "", write_report(small_run).read_text(encoding="utf-8"))
    levels = "".join(f"<th>{level:.2f}</th>" for level in small_run.log_snr)
    assert page.count(f"<th>log-SNR</th>{levels}") >= 2 * len(small_run.tasks) - 1


def test_a_run_without_noise_levels_keeps_its_tables_and_is_refused_by_noise_level(
    copied_run: Path, small_run: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = json.loads((copied_run / "run.json").read_text())
    (copied_run / "run.json").write_text(
        json.dumps(stored | {"timesteps": [], "sigmas": [], "log_snr": []})
    )
    print_run(read_results(copied_run))
    assert "log-SNR" not in capsys.readouterr().out
    for runs in ([str(copied_run)], [str(small_run.path), str(copied_run)]):
        assert main(["leaderboard", *runs, "--by", "log-snr"]) == 2
        assert "does not hold the noise levels of its steps" in capsys.readouterr().err


def test_two_runs_are_printed_at_equal_noise_levels(
    copied_run: Path, tmp_path: Path, small_run: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = json.loads((copied_run / "run.json").read_text())
    shifted = stored | {"log_snr": [level + 0.7 for level in stored["log_snr"]]}
    (copied_run / "run.json").write_text(json.dumps(shifted))
    assert main(["leaderboard", str(small_run.path), str(copied_run), "--by", "log-snr"]) == 0
    printed = capsys.readouterr().out
    assert "B - A is paired over test items" in printed
    assert "-4.00" in printed
    assert "4 steps), log-SNR -5.36 to 7.07" in printed
    apart = Path(shutil.copytree(copied_run, tmp_path / "apart"))
    far = stored | {"log_snr": [level + 99 for level in stored["log_snr"]]}
    (apart / "run.json").write_text(json.dumps(far))
    assert main(["leaderboard", str(small_run.path), str(apart), "--by", "log-snr"]) == 2
    assert "the runs have no log-SNR in common" in capsys.readouterr().err
