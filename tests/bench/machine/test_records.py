"""The file of a measured machine, and the plans and refusals that come from it."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.config import Config
from bench.errors import UserError
from bench.machine.measured import measured_rates, notes
from bench.machine.records import Machine, read_machine, write_machine
from bench.machine.stages import stages_of
from bench.machine.tables import machine_tables
from bench.planning.estimate import plan_of
from bench.planning.plan import Plan

SMALL = ["--limit", "30", "--sampler-steps", "1", "--layers", "mid", "--random-networks", "0"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(
        Config(limit=30, sampler_steps=1, layers=("mid",), random_networks=0, threads=1), 0
    )


def test_a_machine_is_read_back(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "machine.json"
    write_machine(machine, path)
    assert read_machine(path) == machine


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ({"version": "1"}, "version: input should be a valid integer"),
        ({"engines": []}, "engines"),
        ({"sweep_seconds": -1.0}, "sweep_seconds"),
        ({"check_seconds": "fast"}, "check_seconds"),
        ({"statistics": None}, "statistics"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(
    damage: dict[str, Any],
    sentence: str,
    facts: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(facts | damage), encoding="utf-8")
    assert main(["plan", *SMALL, "--sample", "0", "--machine", str(path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert "doctor --measure" in said[0]


@pytest.mark.parametrize("content", [None, "", "[1]", "{"])
def test_what_is_no_such_file_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="doctor --measure"):
        read_machine(path)


def test_a_file_that_cannot_be_written_is_refused(machine: Machine) -> None:
    with pytest.raises(UserError, match="choose another --out"):
        write_machine(machine, Path("/proc/machine.json"))


def test_measured_rates_are_those_of_the_engine(machine: Machine, plan: Plan) -> None:
    for name, row_seconds in (("onnxruntime", 0.01), ("torch_eager", 0.02)):
        rates = measured_rates(machine, plan, name, "tiny")
        assert machine.flops_per_row / rates.network(machine.flops_per_row) == pytest.approx(
            row_seconds
        )
    rates = measured_rates(machine, plan, "onnxruntime", "tiny")
    # Between the two networks, and as fast as the large one beyond it.
    assert rates.network(8e11) == pytest.approx(1e11)
    assert rates.network(8e13) == pytest.approx(1e11)
    assert rates.problems(320) == pytest.approx(1e-9 * 320**3)
    assert rates.opening(1_000_000_000) == pytest.approx(100.0)
    assert rates.to_host is None


def test_labels_that_were_not_measured_are_said_to_be_missing(machine: Machine, plan: Plan) -> None:
    rates = measured_rates(machine, plan, "onnxruntime", "midas")
    assert "labels" not in [stage.name for stage in stages_of(plan, rates)]
    assert "labels of midas are not measured" in "\n".join(
        notes(machine, plan, "onnxruntime", "midas")
    )


@pytest.mark.parametrize(
    ("engine", "flops", "sentence"),
    [
        ("torch_eagre", 10**9, "did you mean torch_eager?"),
        ("openvino", 10**9, "--engine openvino"),
        ("torch_eager", 10**12, "no rate of torch_eager for a denoiser of this size"),
    ],
)
def test_an_engine_that_was_not_measured_is_refused(
    engine: str, flops: int, sentence: str, machine: Machine, plan: Plan
) -> None:
    from dataclasses import replace

    with pytest.raises(UserError) as refused:
        measured_rates(machine, replace(plan, flops_per_row=flops), engine, "tiny")
    assert sentence in str(refused.value)


def test_an_engine_of_another_device_is_refused(facts: dict[str, Any], plan: Plan) -> None:
    facts["engines"][1]["device"] = "cuda"
    machine = Machine.model_validate_json(json.dumps(facts))
    with pytest.raises(UserError, match="statistics of the measured machine are on cpu"):
        measured_rates(machine, plan, "torch_eager", "tiny")


def test_a_plan_prints_measured_and_published_stages(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "machine.json"
    write_machine(machine, path)
    options = ["--sample", "0", "--gpu", "a100,4090", "--machine", str(path)]
    assert main(["plan", *SMALL, *options]) == 0
    said = capsys.readouterr().out
    for word in ("A Processor, onnxruntime", "A100", "GeForce RTX 4090", "card memory", "labels"):
        assert word in said
    assert said.count("eigenproblems  ") == 3
    # The measured run has no card, and the others no measured labeler.
    assert said.count("sums and images to the host  ") == 2


def test_an_error_that_is_nan_is_the_worst(facts: dict[str, Any]) -> None:
    facts["engines"][0]["errors"]["mid.0"] = None
    machine = Machine.model_validate_json(json.dumps(facts))
    assert isnan(machine.main.worst_error)
    assert machine.engines[1].worst_error == 2e-6
    assert "nan" in machine_tables(machine)


def test_every_part_has_a_table(machine: Machine) -> None:
    text = machine_tables(machine)
    for word in ("TFLOP/s", "+25%", "all of a network", "eigenproblem", "no GPU", "torch_compile"):
        assert word in text
