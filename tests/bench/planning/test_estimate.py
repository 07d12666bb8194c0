"""A plan against the run that it foretells: rows and disk as they come out, time within a factor of 1.5."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.__main__ import main
from bench.config import Config
from bench.networks import Deferred, Networks
from bench.planning.estimate import Plan, plan_of
from bench.planning.gpus import GPUS
from bench.planning.solving import sampled_bank
from bench.run import run
from bench.runs.filmstrips import STRIP_ITEMS
from bench.runs.results import Results, read_results
from bench.study import open_study
from engines.components import Components
from engines.engine import Prediction
from extract.networks import TRAINED
from extract.shards import Shards
from probes.accumulate import sums_of_tensors
from probes.solve import solve_probe_set

OPTIONS = {
    "limit": 48,
    "sampler_steps": 3,
    "layers": ("mid", "up2.1", "up3.0"),
    "threads": 1,
    "shard": 8,
}


@dataclass
class Both:
    plan: Plan
    results: Results
    planned_seconds: float
    """Mean of a plan before the run and one after it: what else the machine does slows calls of either."""
    cpu_seconds: float
    disk_bytes: int
    shards: list[Path]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    out = tmp_path_factory.mktemp("plan") / "run"
    config = Config(**OPTIONS, out=str(out))
    sizes: list[int] = []

    def measured(_: Shards) -> None:
        sizes.append(sum(path.stat().st_size for path in out.rglob("*.safetensors")))

    with pytest.MonkeyPatch.context() as patch:
        # Seconds of the processor, so that what else the machine does moves nothing; there is one thread.
        patch.setattr("bench.measure.time.perf_counter", time.process_time)
        patch.setattr(Shards, "remove", measured)
        plan = plan_of(config)
        started = time.process_time()
        results = read_results(run(config).path)
        taken = time.process_time() - started
        after = plan_of(config)
    assert plan.measured
    assert after.measured
    planned = (plan.measured.seconds + after.measured.seconds) / 2
    return Both(
        plan,
        results,
        planned,
        taken,
        sizes[0],
        sorted((out / "shards").rglob("fold-*.safetensors")),
    )


def test_time_is_right_within_a_factor_of_one_and_a_half(both: Both) -> None:
    assert both.cpu_seconds / 1.5 <= both.planned_seconds <= both.cpu_seconds * 1.5


def test_rows_are_those_of_the_run(both: Both) -> None:
    assert both.plan.engine_rows == sum(int(row["rows"]) for row in both.results.costs)
    record = both.results.record
    assert (both.plan.train_items, both.plan.test_items) == (
        len(record.train_items),
        len(record.test_items),
    )
    assert both.plan.image_steps == 48 * 3


def test_networks_that_generate_count_every_step_up_to_the_last_probed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that engines are given are counted where they are given, and latents where they are decoded."""
    baselines = ("own", "reinitialised", "own-reinitialised", "vae", "unconditional", "decoded")
    sparse = {
        "engine": "torch_eager",
        "limit": 12,
        "sampler_steps": 4,
        "layers": ("mid",),
        "threads": 1,
    }
    config = Config(**sparse, steps=(1, 3), baselines=baselines, out=str(tmp_path / "run"))
    planned = plan_of(config, 2)
    rows: list[int] = []
    decoded: list[int] = []
    call, pad = Deferred.__call__, Components.padded

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
    monkeypatch.setattr(Components, "padded", padding)
    run(config)
    assert planned.engine_rows == sum(rows)
    # Besides, the report's strips show noisy latents.
    assert planned.decodings == sum(decoded) - STRIP_ITEMS * 2


def test_disk_is_right_within_a_fifth(both: Both) -> None:
    assert both.plan.measured
    assert both.plan.measured.disk_bytes == pytest.approx(both.disk_bytes, rel=0.2)


def test_a_sampled_bank_has_the_cells_and_shapes_of_a_solved_one(both: Both) -> None:
    from safetensors.torch import load_file

    folds = [sums_of_tensors(load_file(path)) for path in both.shards[:3]]
    tasks, steps = ["saliency", "depth"], range(3)
    sampled, seconds = sampled_bank(folds, tasks, open_study(Config(**OPTIONS)))
    solved = solve_probe_set(folds, tasks, steps, {TRAINED}, 1)
    assert seconds > 0
    for name in tasks:
        assert sampled.probes[name].keys() == solved.probes[name].keys()
        for cell, probe in solved.probes[name].items():
            assert sampled.probes[name][cell].weights.shape == probe.weights.shape
            assert (sampled.probes[name][cell].pattern is None) == (probe.pattern is None)


def test_the_command_prints_a_plan_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = [
        "plan",
        "--limit",
        "30",
        "--sampler-steps",
        "1",
        "--layers",
        "mid",
        "--threads",
        "1",
        "--out",
        str(out),
    ]
    assert main([*command, "--random-networks", "0", "--sample", "2", "--gpu", "a100"]) == 0
    said = capsys.readouterr().out
    for word in ("image-steps", "memory", "disk", "in all", "A100", "assumed 35%"):
        assert word in said
    assert not out.exists()


def test_a_sample_of_none_generates_nothing_and_counts_the_same(
    both: Both, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an engine is opened")

    monkeypatch.setattr(Networks, "open", refuse)
    counted = plan_of(Config(**OPTIONS), 0)
    assert counted.measured is None
    assert counted == replace(both.plan, measured=None)
    assert (
        main(["plan", "--limit", "30", "--sampler-steps", "1", "--sample", "0", "--gpu", "a100"])
        == 0
    )
    said = capsys.readouterr().out
    assert "A100" in said
    assert "on this machine" not in said


def test_unknown_cards_and_samples_of_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--gpu", "h1000"]) == 2
    assert "did you mean h100?" in capsys.readouterr().err
    assert main(["plan", "--sample", "1"]) == 2
    assert "at least 2" in capsys.readouterr().err


def test_every_card_has_a_source() -> None:
    for gpu in GPUS.values():
        assert gpu.source
        assert 1e13 < gpu.half_flops < 1e16
        assert 1e12 < gpu.single_flops <= gpu.half_flops
