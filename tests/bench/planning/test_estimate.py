"""A plan against the run that it estimates: rows, disk and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.__main__ import main
from bench.config import Config
from bench.networks import Deferred, Networks
from bench.planning.estimate import Plan, plan_of
from bench.planning.solving import sampled_probe_set
from bench.run import run
from bench.runs.results import Results
from bench.study import open_study
from engines.components import Components
from engines.engine import Prediction
from extract.networks import TRAINED
from probes.solve import solve_probe_set
from probes.statistics import sums_of_tensors


@pytest.fixture(scope="module")
def plan(small_config: dict[str, object]) -> Plan:
    """A plan of the small run, from two items per stage."""
    return plan_of(Config(**small_config), 2)


def cpu_plan(config: Config) -> Plan:
    """A plan in seconds of the one thread's processor, which other processes hardly change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.measure.time.perf_counter", time.process_time)
        return plan_of(config)


@pytest.mark.slow
def test_time_is_right_within_a_factor_of_one_and_a_half(
    small_config: dict[str, object], tmp_path: Path
) -> None:
    # The mean of a plan before the run and one after it, as the machine's load changes.
    config = Config(**small_config, out=str(tmp_path / "run"))
    before = cpu_plan(config)
    started = time.process_time()
    run(config)
    cpu_seconds = time.process_time() - started
    plans = before, cpu_plan(Config(**small_config))
    seconds = sum(plan.measured.seconds for plan in plans if plan.measured) / 2
    assert cpu_seconds / 1.5 <= seconds <= cpu_seconds * 1.5


def test_rows_are_those_of_the_run(plan: Plan, small_run: Results) -> None:
    assert plan.engine_rows == sum(int(row["rows"]) for row in small_run.costs)
    record = small_run.record
    assert (plan.train_items, plan.test_items) == (len(record.train_items), len(record.test_items))
    assert plan.image_steps == 50 * 4


def test_networks_that_generate_count_every_step_up_to_the_last_probed_one(
    small_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are counted at the engines' calls, and latents where they are decoded."""
    baselines = ("own", "reinitialised", "own-reinitialised", "vae", "unconditional", "decoded")
    sparse = {
        "model": str(small_models["sd2"]),
        "labeler": "tiny",
        "engine": "torch_eager",
        "limit": 12,
        "sampler_steps": 4,
        "layers": ("mid",),
        "threads": 1,
    }
    config = Config(**sparse, steps=(1, 3), baselines=baselines, out=str(tmp_path / "run"))
    plan = plan_of(config, 0)
    rows: list[int] = []
    decoded: list[int] = []
    call, pad = Deferred.__call__, Components.in_chunks

    def counting(
        engine: Deferred, latents: torch.Tensor, timestep: float, text: torch.Tensor
    ) -> Prediction:
        rows.append(len(latents))
        return call(engine, latents, timestep, text)

    def padding(
        parts: Components, apply: Callable[[Tensor], Tensor], latents: Tensor, *at_once: int
    ) -> Tensor:
        # Prompts are embedded the same way.
        decoded.append(len(latents) if latents.dim() == 4 else 0)
        return pad(parts, apply, latents, *at_once)

    monkeypatch.setattr(Deferred, "__call__", counting)
    monkeypatch.setattr(Components, "in_chunks", padding)
    run(config)
    assert plan.engine_rows == sum(rows)
    assert plan.decodings == sum(decoded)


def test_disk_is_right_within_a_fifth(plan: Plan, observed_run: Any) -> None:
    assert plan.measured
    assert plan.measured.disk_bytes == pytest.approx(observed_run.disk_bytes, rel=0.2)


def test_a_sampled_probe_set_has_the_cells_and_shapes_of_a_solved_one(
    observed_run: Any, small_config: dict[str, object]
) -> None:
    from safetensors.torch import load_file

    folds = [sums_of_tensors(load_file(path)) for path in observed_run.shards[:3]]
    tasks, steps = ["saliency", "depth"], range(4)
    sampled, seconds = sampled_probe_set(folds, tasks, open_study(Config(**small_config)))
    solved = solve_probe_set(folds, tasks, steps, {TRAINED}, 1)
    assert seconds > 0
    for name in tasks:
        assert sampled.probes[name].keys() == solved.probes[name].keys()
        for cell, probe in solved.probes[name].items():
            assert sampled.probes[name][cell].weights.shape == probe.weights.shape
            assert (sampled.probes[name][cell].pattern is None) == (probe.pattern is None)


COUNT = ["plan", "--limit", "30", "--sampler-steps", "1", "--gpu", "a100"]


def test_the_command_prints_a_plan_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = ["--layers", "mid", "--threads", "1", "--random-networks", "0", "--sample", "2"]
    assert main([*COUNT, *options, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    for word in ("image-steps", "memory", "disk", "in all", "A100"):
        assert word in said
    assert not out.exists()


def test_a_sample_of_none_generates_nothing_and_counts_the_same(
    plan: Plan,
    small_config: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an engine is opened")

    monkeypatch.setattr(Networks, "open", refuse)
    counted = plan_of(Config(**small_config), 0)
    assert counted.measured is None
    assert counted == replace(plan, measured=None)
    assert main([*COUNT, "--sample", "0"]) == 0
    said = capsys.readouterr().out
    assert "A100" in said
    assert "on this machine" not in said


def test_unknown_cards_and_samples_of_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--gpu", "h1000"]) == 2
    assert "did you mean h100?" in capsys.readouterr().err
    assert main(["plan", "--sample", "1"]) == 2
    assert "at least 2" in capsys.readouterr().err
