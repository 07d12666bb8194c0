"""A small complete profile: files, tables, baselines and refusals."""

from __future__ import annotations

import csv
import json
import mmap
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.errors import UserError
from bench.measure import matrix_rate, peak_during, resident_bytes, timed
from bench.networks import alone
from bench.profiling.config import REFERENCE, ProfileConfig
from bench.profiling.hooks import generate_with_hooks, pipeline_of
from bench.profiling.memory import memory_of
from bench.profiling.probe_parity import stored_probes
from bench.profiling.profile import open_profile_study, profile
from bench.profiling.published import authors_terms
from bench.profiling.records import (
    EXTRACTION,
    FIRST,
    GENERATION,
    HOOKS_BATCHED,
    HOOKS_ONE,
    STEP,
    read_profile,
)
from bench.profiling.tables import print_profile
from bench.runs.results import Results
from bench.study import Study
from datasets.grid import Grid
from engines.engine import Engine
from extract.stream import stream
from probes.probe_set import ProbeSet
from probes.solve import solve_probe_set

SMALL = ProfileConfig(
    engines=("onnxruntime",),
    batch=(2, 4),
    items=2,
    rounds=2,
    threads=1,
    sampler_steps=4,
    skip=("untapped", "memory"),
    baselines=("hooks", "authors"),
)


@pytest.fixture(scope="module")
def study() -> Study:
    return open_profile_study(SMALL)


@pytest.fixture(scope="module")
def small_profile(small_run: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles") / "small"

    def first_step(sums: Any, tasks: Any, steps: range, *others: Any) -> ProbeSet:
        return solve_probe_set(sums, tasks, steps[:1], *others)

    with pytest.MonkeyPatch.context() as patch:
        # Repetitions, of which no test reads more than one.
        patch.setattr("bench.profiling.profile.solve_probe_set", first_step)
        patch.setattr("bench.profiling.profile.LAYER_CALLS", 1)
        patch.setattr("bench.profiling.published._STEPS", 1)
        patch.setattr("bench.profiling.published._FITS", 1)
        return profile(replace(SMALL, out=str(folder), run=str(small_run.path)))[1]


def test_every_reading_is_stored_and_read_back(small_profile: Path) -> None:
    stored = read_profile(small_profile)
    assert list(stored.engines) == [REFERENCE, "onnxruntime"]
    for name in stored.engines:
        for rows in SMALL.batch:
            assert stored.seconds(STEP, name, rows).shape == (SMALL.rounds, SMALL.sampler_steps)
            assert stored.seconds(FIRST, name, rows).shape == (1, 1)
        for what in (EXTRACTION, GENERATION):
            assert stored.seconds(what, name, max(SMALL.batch)).shape == (SMALL.rounds, 1)
    for what in (HOOKS_ONE, HOOKS_BATCHED):
        assert sum(sample.what == what for sample in stored.samples) == SMALL.rounds
    assert min(sample.seconds for sample in stored.samples) > 0
    with (small_profile / "samples.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(stored.samples)
    assert stored.options.study_items == 617
    assert {"processor", "commit", "versions"} <= stored.environment.keys()
    assert all(len(rates) == SMALL.rounds for rates in stored.peaks.values())


def test_engines_take_turns(small_profile: Path) -> None:
    taken = [
        sample
        for sample in read_profile(small_profile).samples
        if sample.what == STEP and sample.rows == 2
    ]
    order = list(dict.fromkeys((sample.round, sample.engine) for sample in taken))
    assert order == [(0, REFERENCE), (0, "onnxruntime"), (1, "onnxruntime"), (1, REFERENCE)]


def test_every_speed_has_its_errors(small_profile: Path) -> None:
    engines = read_profile(small_profile).engines
    exact, other = engines[REFERENCE].parity, engines["onnxruntime"].parity
    assert max(map(max, exact.given.values())) == 0
    assert 0 < max(map(max, other.given.values())) < 1e-4
    assert len(other.given) == 17
    assert {change.task for change in other.scores} == {"saliency", "depth"}
    for change in other.scores:
        # 3 layers x 4 steps, with and without position; 2 layers exceed the narrowest width.
        assert (change.cells, change.items) == (32, 2)
        assert change.largest < 0.02
    assert all(change.largest == 0 for change in exact.scores)


def test_the_tables_show_every_engine_with_its_error(
    small_profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_profile(read_profile(small_profile))
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith(("2 ", "4 ")) and "fp32" in line]
    assert len(lines) == 2 * len(SMALL.batch)
    assert all(line.count(" / ") == 2 for line in lines)
    for word in (
        "MFU",
        "hooks, image by image",
        "images/s",
        "x torch_eager",
        "saliency dice",
        "times less",
    ):
        assert word.lower() in said.lower()


def test_hooks_generate_the_same_images_and_keep_the_same_activations(
    study: Study, eager: Engine
) -> None:
    items = study.test[0].items[:2]
    streamed: dict[str, list[torch.Tensor]] = {}

    class Keep:
        def update(
            self, step: int, network: str, layer: str, activation: torch.Tensor, grid: Grid
        ) -> None:
            streamed.setdefault(layer, []).append(activation)

        def finish(self, labels: object) -> None:
            pass

    inputs, read = study.block_input(items)
    output, _ = stream(alone(study, eager, 4), inputs, [Keep()], range(SMALL.sampler_steps), read)
    one, both = (
        generate_with_hooks(study, pipeline_of(study), items, at_once) for at_once in (1, 2)
    )
    for kept in (one, both):
        assert torch.allclose(torch.cat(kept.images), output.images, atol=1e-4)
    for layer in study.layers:
        assert len(both.activations[layer]) == SMALL.sampler_steps
        for actual, expected in zip(both.activations[layer], streamed[layer], strict=True):
            assert torch.allclose(actual, expected, atol=1e-3)


def test_the_published_procedure_has_the_papers_counts(study: Study) -> None:
    terms = {
        term.name.partition(":")[0]: term for term in authors_terms(study, study.test[0].items[:1])
    }
    # 4 steps in place of 15: 617 items x 7 groups x 10 image-steps x 2 tasks.
    assert terms["UNet steps"].count == 617 * 7 * 10 * 2
    assert terms["Adam, depth"].count == 16 * 4 * 30 * 62
    assert all(min(term.samples) > 0 for term in terms.values())
    assert len(terms["UNet steps"].samples) == 7 * 3


def test_memory_is_measured_in_a_separate_process() -> None:
    memory = memory_of("tiny", "trained", REFERENCE, 2, 24, 1)
    assert memory.weights_bytes == pytest.approx(22.1e6, rel=0.01)
    assert memory.taps_bytes == 2 * 278_016
    assert memory.io_bytes == 2 * 4 * (4 * 16 * 16 * 2 + 24 * 64)
    assert memory.device_bytes is None
    assert memory.peak_bytes is None or memory.peak_bytes > memory.taps_bytes


@pytest.mark.parametrize(
    ("last", "sentence"),
    [("echo no such engine >&2", "failed: no such engine; --skip memory"), ("", "no output")],
)
def test_a_memory_process_that_fails_is_named_by_its_last_line(
    last: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{last}\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(UserError, match=sentence):
        memory_of("tiny", "trained", REFERENCE, 2, 24, 1)


def test_a_memory_process_that_fails_costs_no_other_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise UserError("the process was killed")

    monkeypatch.setattr("bench.profiling.profile.memory_of", fail)
    config = replace(
        SMALL,
        engines=(REFERENCE,),
        batch=(2,),
        rounds=1,
        sampler_steps=1,
        baselines=(),
        skip=("untapped", "layers", "extraction"),
        out=str(tmp_path / "profile"),
    )
    measured, folder = profile(config)
    assert "no memory reading: the process was killed" in capsys.readouterr().err
    assert measured.engines[REFERENCE].memory is None
    print_profile(read_profile(folder))
    assert "the whole extraction" not in capsys.readouterr().out


def test_a_peak_includes_freed_memory() -> None:
    size = 1 << 26

    def allocate() -> None:
        # New pages: an allocator may return memory that is resident already.
        with mmap.mmap(-1, size) as pages:
            pages.write(bytes(1) * size)

    before = resident_bytes()
    peak = peak_during(allocate)
    assert peak is None or size * 0.9 < peak - before < size * 3


def test_clocks_and_rates_are_positive() -> None:
    result, seconds = timed(lambda: sum(range(1000)))
    assert result == 499500
    assert seconds > 0
    assert matrix_rate("fp32") > 0
    assert matrix_rate("int3") is None


def test_random_weights_need_no_labeler_and_generate_finite_images(study: Study) -> None:
    drawn = open_profile_study(replace(SMALL, weights="random"))
    labels = drawn.reader(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert labels.disparity.shape == (2, 64, 64)
    assert labels.saliency.any()
    again = open_profile_study(replace(SMALL, weights="random"))
    modules = [drawn_study.components.denoiser.module for drawn_study in (drawn, again)]
    weights = [next(module.parameters()) for module in modules]
    assert torch.equal(*weights)
    trained = next(study.components.denoiser.module.parameters())
    assert not torch.equal(weights[0], trained)


@pytest.mark.parametrize("harm", ["cut", "other"])
def test_probes_that_cannot_be_read_are_refused(harm: str, study: Study, copied_run: Path) -> None:
    file = copied_run / "probes.safetensors"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(UserError, match="is damaged"):
        stored_probes(copied_run, study, "tiny")


def test_a_model_that_names_no_labeler_is_profiled(
    study: Study, small_models: dict[str, Path], small_run: Results
) -> None:
    config = replace(SMALL, model=str(small_models["sd2"]))
    assert open_profile_study(config).facts["labeler"] == "brightness"
    assert study.facts["labeler"] == "tiny"
    stored = json.loads((small_run.path / "config.json").read_text())["options"]
    assert stored["labeler"] is None
    assert open_profile_study(replace(SMALL, run=str(small_run.path))).facts["labeler"] == "tiny"
