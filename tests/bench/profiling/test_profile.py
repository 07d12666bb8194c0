"""A small but whole profile: what it stores, what it prints, what it refuses."""

from __future__ import annotations

import csv
import json
import mmap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bench.__main__ import main
from bench.errors import UserError
from bench.measure import matrix_rate, peak_during, resident_bytes, timed
from bench.networks import alone
from bench.profiling.config import REFERENCE, ProfileConfig, chosen_engines
from bench.profiling.hooks import generate_with_hooks, pipeline_of
from bench.profiling.memory import memory_of
from bench.profiling.probe_parity import stored_probes
from bench.profiling.profile import open_profile_study, profile
from bench.profiling.published import authors_terms
from bench.profiling.records import (
    EXTRACTION,
    FIRST,
    HOOKS_BATCHED,
    HOOKS_ONE,
    PAINTING,
    STEP,
    read_profile,
)
from bench.profiling.tables import print_profile
from bench.runs.results import Results
from bench.study import Study
from engines.engine import Engine
from extract.stream import stream

SMALL = ProfileConfig(
    engines=("onnxruntime",), batch=(2, 4), items=2, rounds=2, threads=1, sampler_steps=4, skip=("untapped", "memory"),
    baselines=("hooks", "authors"),
)  # fmt: skip


@pytest.fixture(scope="module")
def study() -> Study:
    return open_profile_study(SMALL)


@pytest.fixture(scope="module")
def small_profile(small_run: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles") / "small"
    return profile(replace(SMALL, out=str(folder), run=str(small_run.path)))[1]


def test_every_reading_is_stored_and_read_back(small_profile: Path) -> None:
    found = read_profile(small_profile)
    assert list(found.engines) == [REFERENCE, "onnxruntime"]
    for name in found.engines:
        for rows in SMALL.batch:
            assert found.seconds(STEP, name, rows).shape == (SMALL.rounds, SMALL.sampler_steps)
            assert found.seconds(FIRST, name, rows).shape == (1, 1)
        for what in (EXTRACTION, PAINTING):
            assert found.seconds(what, name, max(SMALL.batch)).shape == (SMALL.rounds, 1)
    for what in (HOOKS_ONE, HOOKS_BATCHED):
        assert sum(sample.what == what for sample in found.samples) == SMALL.rounds
    assert min(sample.seconds for sample in found.samples) > 0
    with (small_profile / "samples.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(found.samples)
    assert found.options["study_items"] == 617
    assert {"processor", "commit", "versions"} <= found.environment.keys()
    assert all(len(rates) == SMALL.rounds for rates in found.peaks.values())


def test_engines_take_turns(small_profile: Path) -> None:
    taken = [
        sample
        for sample in read_profile(small_profile).samples
        if sample.what == STEP and sample.rows == 2
    ]
    order = list(dict.fromkeys((sample.round, sample.engine) for sample in taken))
    assert order == [(0, REFERENCE), (0, "onnxruntime"), (1, "onnxruntime"), (1, REFERENCE)]


def test_every_speed_has_its_errors(small_profile: Path) -> None:
    found = read_profile(small_profile)
    exact, other = found.engines[REFERENCE].parity, found.engines["onnxruntime"].parity
    assert max(map(max, exact.given.values())) == 0
    assert 0 < max(map(max, other.given.values())) < 1e-4
    assert len(other.given) == 17
    assert {change.task for change in other.scores} == {"saliency", "depth"}
    for change in other.scores:
        # Three layers, four steps, with and without position; two layers are wider than the narrowest.
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


def test_hooks_generate_the_same_images_and_hear_the_same_activations(
    study: Study, eager: Engine
) -> None:
    items = study.test[0].items[:2]
    heard: dict[str, list[torch.Tensor]] = {}

    class Keep:
        def see(self, step: int, network: str, layer: str, activation: torch.Tensor) -> None:
            heard.setdefault(layer, []).append(activation)

        def finish(self, labels: object) -> None:
            pass

    given, read = study.block_input(items)
    generated, _ = stream(alone(study, eager, 4), given, [Keep()], range(SMALL.sampler_steps), read)
    one, both = (
        generate_with_hooks(study, pipeline_of(study), items, at_once) for at_once in (1, 2)
    )
    for kept in (one, both):
        assert torch.allclose(torch.cat(kept.images), generated.images, atol=1e-4)
    for layer in study.layers:
        assert len(both.activations[layer]) == SMALL.sampler_steps
        for theirs, ours in zip(both.activations[layer], heard[layer], strict=True):
            assert torch.allclose(theirs, ours, atol=1e-3)


def test_the_published_procedure_has_the_papers_counts(study: Study) -> None:
    terms = {
        term.name.partition(":")[0]: term for term in authors_terms(study, study.test[0].items[:1])
    }
    # 4 steps in place of 15: 617 items x 7 groups x 10 image-steps x 2 tasks.
    assert terms["UNet steps"].count == 617 * 7 * 10 * 2
    assert terms["Adam, depth"].count == 16 * 4 * 30 * 62
    assert all(min(term.samples) > 0 for term in terms.values())
    assert len(terms["UNet steps"].samples) == 7 * 3
    assert 617 * 7 * sum(range(1, 16)) == 518_280


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    found = memory_of("tiny", "trained", REFERENCE, 2, 24, 1)
    assert found.weights_bytes == pytest.approx(22.1e6, rel=0.01)
    assert found.taps_bytes == 2 * 278_016
    assert found.io_bytes == 2 * 4 * (4 * 16 * 16 * 2 + 24 * 64)
    assert found.device_bytes is None
    assert found.peak_bytes is None or found.peak_bytes > found.taps_bytes
    with pytest.raises(UserError, match="--skip memory"):
        memory_of("tiny", "trained", "no-such-engine", 2, 24, 1)


def test_a_memory_process_that_fails_costs_no_other_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise UserError("it was killed")

    monkeypatch.setattr("bench.profiling.profile.memory_of", fail)
    asked = replace(
        SMALL, engines=(REFERENCE,), batch=(2,), rounds=1, sampler_steps=1, baselines=(),
        skip=("untapped", "layers", "extraction"), out=str(tmp_path / "profile"),
    )  # fmt: skip
    measured, folder = profile(asked)
    assert "no memory reading: it was killed" in capsys.readouterr().err
    assert measured.engines[REFERENCE].memory is None
    print_profile(read_profile(folder))
    assert "the whole extraction" not in capsys.readouterr().out


def test_a_peak_holds_what_was_allocated_and_let_go() -> None:
    size = 1 << 26

    def allocate() -> None:
        # Pages of its own: an allocator would give out memory that is resident already.
        with mmap.mmap(-1, size) as pages:
            pages.write(bytes(1) * size)

    before = resident_bytes()
    peak = peak_during(allocate)
    assert peak is None or size * 0.9 < peak - before < size * 3


def test_clocks_and_rates_are_plausible() -> None:
    result, seconds = timed(lambda: sum(range(1000)))
    assert result == 499500
    assert 0 < seconds < 1
    assert 1e8 < matrix_rate("fp32") < 1e14
    assert matrix_rate("int3") is None


def test_random_weights_need_no_labeler_and_generate_finite_images() -> None:
    drawn = open_profile_study(replace(SMALL, weights="random"))
    labels = drawn.reader(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert labels.disparity.shape == (2, 64, 64)
    assert labels.saliency.any()
    again = open_profile_study(replace(SMALL, weights="random"))
    weights = [next(found.components.unet.parameters()) for found in (drawn, again)]
    assert torch.equal(*weights)
    trained = next(open_profile_study(SMALL).components.unet.parameters())
    assert not torch.equal(weights[0], trained)


def test_pytorch_is_always_among_the_engines() -> None:
    assert chosen_engines(SMALL) == (REFERENCE, "onnxruntime")
    assert {REFERENCE, "onnxruntime"} <= set(chosen_engines(ProfileConfig()))


def test_readings_of_another_engine_or_batch_are_not_mixed(small_profile: Path) -> None:
    found = read_profile(small_profile)
    assert found.seconds(STEP, "onnxruntime", 3).size == 0
    two, four = (np.median(found.seconds(STEP, REFERENCE, rows)) for rows in SMALL.batch)
    assert two != four


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--engines", "onnx"], "there is no engine 'onnx'; did you mean onnxruntime?"),
        (["--batch", "0"], "batch must be rows per call, each at least 1"),
        (["--items", "1"], "items must be a whole number of at least 2"),
        (["--rounds", "0"], "rounds must be a whole number of at least 1"),
        (["--model", "tni"], "there is no model 'tni'; did you mean tiny?"),
        (["--model", "sd_v1"], "--weights random"),
        (
            ["--model", "owner/other", "--weights", "random"],
            "the architecture of owner/other is not known",
        ),
        (["--weights", "rand"], "weights must be one of trained, random"),
        (["--baselines", "hook"], "--baselines knows no 'hook'; did you mean hooks?"),
        (["--skip", "all"], "--skip knows no 'all'"),
        (["--run", "/nowhere"], "/nowhere is no run folder"),
        (["--run", "/nowhere", "--weights", "random"], "--run holds probes of trained weights"),
        (["--out", "/proc/nothing"], "choose another --out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["profile", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert not list(tmp_path.rglob("*.json"))


def test_an_engine_that_cannot_be_used_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.backends import onnxruntime

    broken = replace(onnxruntime.BACKEND, unavailable=lambda: "it is not installed")
    monkeypatch.setattr(onnxruntime, "BACKEND", broken)
    with pytest.raises(
        UserError, match="engine onnxruntime cannot be used here: it is not installed"
    ):
        chosen_engines(SMALL)
    assert "onnxruntime" not in chosen_engines(ProfileConfig())


def test_a_run_of_another_sampler_is_refused(small_run: Results, tmp_path: Path) -> None:
    asked = replace(SMALL, sampler_steps=3, run=str(small_run.path), out=str(tmp_path / "p"))
    with pytest.raises(UserError, match="has --sampler-steps 4, not 3"):
        profile(asked)


def test_damaged_profiles_are_refused(small_profile: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no profile folder"):
        read_profile(tmp_path)
    (tmp_path / "profile.json").write_bytes((small_profile / "profile.json").read_bytes()[:500])
    with pytest.raises(UserError, match="damaged"):
        read_profile(tmp_path)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds thesis"):
        profile(replace(SMALL, out=str(tmp_path)))


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
    small_models: dict[str, Path], small_run: Results
) -> None:
    config = replace(SMALL, model=str(small_models["sd2"]))
    assert open_profile_study(config).facts["labeler"] == "brightness"
    assert open_profile_study(SMALL).facts["labeler"] == "tiny"
    stored = json.loads((small_run.path / "config.json").read_text())["options"]
    assert stored["labeler"] is None
    assert open_profile_study(replace(SMALL, run=str(small_run.path))).facts["labeler"] == "tiny"
