"""A quick self-check of this machine, and the plan that is made of it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.__main__ import main
from bench.commands import doctor
from bench.config import Config
from bench.machine import agreement
from bench.machine.clock import at_once, matrix_peak, readings
from bench.machine.engines import full_size, kinds_of, outer_level
from bench.machine.measure import Effort, measure
from bench.machine.predictions import default_run
from bench.machine.records import Machine, read_machine, write_machine
from bench.machine.stages import seconds_of
from bench.planning.estimate import plan_of
from bench.profiling.flops import work_of
from bench.runs.results import Results
from engines.models.sd_v1 import WORDS

QUICK = Effort(seconds=0.5, widths=(16, 48), items=2, sampler_steps=2, at_full_size=False)


@pytest.fixture(scope="module")
def measured() -> Machine:
    return measure("torch_eager", 1, QUICK)


def test_the_engine_is_the_named_one_and_keeps_its_contract(measured: Machine) -> None:
    assert [engine.name for engine in measured.engines] == ["torch_eager"]
    assert measured.main.worst_error == 0
    assert set(measured.main.errors) > {"noise", "mid.0", "up3.2"}
    assert measured.peaks.keys() == {"fp32 cpu", "fp64 cpu"}
    assert (measured.copies, measured.agreement, measured.main.full_size) == (None, None, None)


def test_wider_statistics_take_longer(measured: Machine) -> None:
    assert [row.channels for row in measured.statistics] == [16, 48]
    # Channels, 14 columns of position, and two targets with five permutations each.
    assert [row.columns for row in measured.statistics] == [42, 74]


def test_its_file_serves_a_plan(
    measured: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "machine.json"
    write_machine(measured, path)
    options = ["--engine", "torch_eager", "--limit", "30", "--sample", "0", "--machine", str(path)]
    assert main(["plan", *options]) == 0
    said = capsys.readouterr().out
    assert "denoisers, with taps" in said
    assert "measured with 1 threads" in said


def test_the_command_prints_every_part_and_writes_the_file(
    measured: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[object, ...]] = []

    def given(*options: object) -> Machine:
        asked.append(options)
        return measured

    monkeypatch.setattr("bench.machine.measure.measure", given)
    path = tmp_path / "machine.json"
    options = ["--engine", "torch_eager", "--threads", "1", "--out", str(path)]
    assert main(["doctor", "--measure", *options]) == 0
    said = capsys.readouterr().out
    for word in ("ms per row", "the default run would take", "no GPU is used", str(path)):
        assert word in said
    assert asked == [("torch_eager", 1, Effort())]
    assert read_machine(path) == measured


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--threads", "2"], "--threads is for --measure"),
        (["--measure", "--threads", "0"], "threads must be a whole number"),
        (["--measure", "--engine", "torch_eagre"], "did you mean torch_eager?"),
    ],
)
def test_bad_options_are_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]


def test_a_run_on_a_card_is_compared_cell_by_cell(
    small_run: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = small_run.tasks["depth"]
    scores = depth.scores.copy()
    # Undefined scores are left out, and one cell's mean differs by 0.25.
    scores[3, 0] += 0.25
    scores[:, :, 0] = np.nan
    reference = depth.scores.copy()
    reference[:, :, 0] = np.nan
    runs = [
        replace(small_run, tasks=small_run.tasks | {"depth": replace(depth, scores=changed)})
        for changed in (scores, reference)
    ]
    monkeypatch.setattr(agreement, "_run", lambda _: runs.pop(0))
    result = agreement.agreement_of("torch_cuda", "onnxruntime", 1, 50, 4)
    assert result.largest["depth, rmse"] == pytest.approx(0.25)
    assert result.largest["saliency, dice"] == 0
    worse = scores.copy()
    worse[5, 0] = np.nan
    runs += [
        replace(small_run, tasks=small_run.tasks | {"depth": replace(depth, scores=changed)})
        for changed in (worse, reference)
    ]
    # A cell that is undefined on one side alone is no agreement.
    again = agreement.agreement_of("torch_cuda", "onnxruntime", 1, 50, 4)
    assert again.largest["depth, rmse"] is None
    assert result.cells == sum(len(task.cells) for task in small_run.tasks.values())


def test_readings_end_with_their_budget() -> None:
    assert len(readings(lambda: None, 0.0)) == 1
    assert len(readings(lambda: None, 60.0, most=7)) == 7


def test_calls_at_once_share_the_time() -> None:
    seconds = at_once(lambda _: time.sleep(0.05), 4, 0.0)
    assert seconds < 0.05


def test_a_peak_is_positive_and_unknown_precisions_have_none() -> None:
    peak = matrix_peak("fp32", "cpu", 0.0)
    assert peak
    assert peak > 0
    assert matrix_peak("int8", "cpu", 0.0) is None
    assert kinds_of(["torch_eager"]) == [("fp32", "cpu"), ("fp64", "cpu")]


def test_the_outer_level_has_the_widths_of_stable_diffusion() -> None:
    with torch.random.fork_rng():
        denoiser, taps = outer_level()
    work, _ = work_of(denoiser, taps, WORDS)
    assert {size // (4 * 64 * 64) for size in work.taps.values()} == {320}
    assert 0.05e12 < work.flops_per_row < 0.4e12, work.flops_per_row
    assert work.parameters < 60e6, work.parameters


def test_a_prediction_is_finite_and_grows_with_the_steps(measured: Machine) -> None:
    few, more = (
        seconds_of(default_run(measured, limit=24, sampler_steps=steps, layers=("mid",))[1])
        for steps in (1, 4)
    )
    assert 0 < few < more < float("inf")


@pytest.mark.slow
def test_a_prediction_is_within_a_factor_of_one_and_a_half_of_a_sampled_plan(
    small_config: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In seconds of the one thread's processor, which other processes hardly change.
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    effort = Effort(seconds=6.0, widths=(64, 160, 320), at_full_size=False)
    machine = measure("torch_eager", 1, effort)
    small = {name: value for name, value in small_config.items() if name != "threads"}
    _, stages = default_run(machine, **small)
    sampled = plan_of(Config(**small, engine="torch_eager", threads=1)).measured
    assert sampled
    assert sampled.seconds / 1.5 <= seconds_of(stages) <= sampled.seconds * 1.5


@pytest.mark.slow
def test_the_outer_level_is_timed_in_an_engine() -> None:
    timed = full_size("torch_eager", 1, {"fp32 cpu": 1e12}, 0.0)
    assert timed.share == pytest.approx(timed.flops_per_row / timed.row_seconds / 1e12)
    assert timed.rows == 1


def test_doctor_without_measure_opens_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_measure", lambda _: pytest.fail("measured"))
    assert main(["doctor"]) in (0, 2)
