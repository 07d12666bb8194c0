"""The description of a machine, and the command that repeats a run."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import environment as environment_module
from bench.command_line import run_command
from bench.commands import run as run_command_file
from bench.config import Config
from bench.environment import environment, versions


def parsed(command: str) -> Config:
    """The configuration that a shell would hand to the command."""
    parser = argparse.ArgumentParser()
    run_command_file.arguments(parser)
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "bench", "run"]
    return run_command_file.config_from(parser.parse_args(words[4:]))


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(limit=40, steps=(1, 3), baselines=("own", "decoded"), out="runs/here"),
        Config(dataset="my prompts; $(x).csv", prompts="a folder", fetch=True, guidance=-0.5),
        Config(labeler="midas", depth_model="a/b", depth_scale=(-1.5, 2.0), random_networks=0),
    ],
    ids=str,
)
def test_the_command_of_a_run_gives_its_configuration_again(config: Config) -> None:
    assert parsed(run_command(config)) == replace(config, out=None)


def test_what_was_typed_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["run", "--dataset", "my prompts.csv"]
    monkeypatch.setattr(sys, "argv", ["bench", *typed])
    assert shlex.split(str(environment().command))[3:] == typed


def test_the_card_and_its_driver_are_told_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def smi(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == "nvidia-smi" or command[0] == "git"
        text = (
            "NVIDIA H100 80GB HBM3, 570.86.15\nNVIDIA L4, 570.86.15\n"
            if command[0] == "nvidia-smi"
            else "abc"
        )
        return subprocess.CompletedProcess(command, 0, stdout=text)

    monkeypatch.setattr(environment_module.subprocess, "run", smi)
    facts = environment().as_json()
    assert facts["gpus"] == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert facts["driver"] == "570.86.15"
    assert "cuda" in facts


def test_an_engine_answers_for_the_packages_that_compute_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment_module, "version", lambda name: "1")
    packages = {
        engine: versions(engine)
        for engine in ("onnxruntime", "onnxruntime_tensorrt", "tensorrt", "openvino_bf16")
    }
    assert {engine: "tensorrt" in names for engine, names in packages.items()} == {
        "onnxruntime": False,
        "onnxruntime_tensorrt": True,
        "tensorrt": True,
        "openvino_bf16": False,
    }
    assert "openvino" in packages["openvino_bf16"]


def test_the_commit_of_another_project_is_not_the_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the package is installed in a virtual environment inside a repository."""
    for words in (
        ("init", "-q"),
        ("-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "x"),
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    for inside in (False, True):
        module = tmp_path / ("site-packages" if inside else "") / "bench" / "environment.py"
        module.parent.mkdir(parents=True)
        monkeypatch.setattr(environment_module, "__file__", str(module))
        assert (environment_module._commit() is None) is inside
