"""Options that say how a labeler's saliency network is used, from the command line to the file."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.command_line import run_command
from bench.commands import dataset as dataset_command
from bench.commands import run as run_command_file
from bench.config import Config, config_of
from bench.errors import UserError
from bench.labeling import reader_of, refuse_networks
from bench.options.labels import preparation_of
from datasets.preparation import PRESETS, TRACER, Preparation

FREE = ["--saliency-mean", "0.1,0.2,0.3", "--saliency-deviation", "2", "--saliency-cut", "0.25"]


def typed(*words: str) -> Config:
    parser = argparse.ArgumentParser()
    run_command_file.arguments(parser)
    return run_command_file.config_from(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], TRACER),
        (["--saliency-preset", "tracer"], TRACER),
        (["--saliency-preset", "u2net"], PRESETS["u2net"]),
        (["--saliency-preset", "bria"], PRESETS["bria"]),
        (FREE, Preparation((0.1, 0.2, 0.3), (2.0, 2.0, 2.0), cut=0.25)),
        (["--saliency-mean=-0.5,0,1"], Preparation(mean=(-0.5, 0.0, 1.0))),
        (["--saliency-normalise"], Preparation(normalise=True)),
        (["--saliency-mean", "0"], Preparation(mean=(0.0, 0.0, 0.0))),
        (
            ["--saliency-preset", "isnet", "--no-saliency-normalise", "--saliency-cut", "1"],
            Preparation((0.5,) * 3, (1.0,) * 3, cut=1.0, size=1024),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_are_a_preset_with_what_was_given(words: list[str], expected: Preparation) -> None:
    config = typed(*words)
    assert preparation_of(config) == expected
    # The command that repeats the run means the same.
    assert typed(*shlex.split(run_command(config))[4:]) == config


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"saliency_preset": "u3net"}, "must be one of tracer, u2net, isnet, bria, not 'u3net'"),
        ({"saliency_mean": [0.5, 0.5]}, "must be one number, or one each for red, green and blue"),
        ({"saliency_deviation": [0.0]}, "must be one number above 0, or one each"),
        ({"saliency_deviation": [1.0, 1.0, -1.0]}, "must be one number above 0, or one each"),
        ({"saliency_mean": [float("nan")]}, "must be one number, or one each"),
        ({"saliency_cut": 0.0}, "must be a number above 0 and at most 1, not 0.0"),
        ({"saliency_cut": 127.0}, "must be a number above 0 and at most 1, not 127.0"),
        ({"saliency_normalise": "yes"}, "must be true or false, not 'yes'"),
        ({"saliency_size": 0}, "must be a whole number of at least 1, not 0"),
    ],
    ids=str,
)
def test_a_value_without_a_meaning_is_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        config_of(options)
    (name,) = options
    assert str(caught.value).startswith(f"{name} ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["--saliency-preset", "u2net"],
        ["--saliency-mean", "0.5"],
        ["--saliency-deviation", "1"],
        ["--saliency-cut", "0.5"],
        ["--saliency-normalise"],
        ["--no-saliency-normalise"],
        ["--saliency-size", "64"],
    ],
    ids=" ".join,
)
def test_a_labeler_that_would_ignore_an_option_refuses_it(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--limit", "12", *words]) == 2
    said = capsys.readouterr().err
    option = words[0].replace("--no-", "--")
    assert f"the labeler tiny takes no other networks; leave {option} out" in said


def test_the_size_in_folders_of_earlier_versions_is_not_refused() -> None:
    refuse_networks(Config(saliency_size=512), "tiny")


@pytest.mark.parametrize("action", ["make --out x", "agreement --labelers a,b --images x"])
def test_what_labels_with_a_network_can_say_how(action: str) -> None:
    parser = argparse.ArgumentParser()
    dataset_command.arguments(parser)
    options = parser.parse_args([*action.split(), *FREE, "--saliency-preset", "isnet"])
    assert (options.saliency_preset, options.saliency_cut) == ("isnet", 0.25)
    assert options.saliency_normalise is None


def test_only_what_differs_from_the_default_enters_the_labelers_name(
    save_dpt: Callable[..., Path],
    save_saliency: Callable[..., Path],
    cache: Path,
    tmp_path: Path,
) -> None:
    networks = Config(
        labeler="midas",
        depth_model=str(save_dpt(tmp_path / "dpt")),
        depth_scale=(0.0, 1.0),
        saliency_model=str(save_saliency(tmp_path / "mask.onnx", 16)),
    )

    def named(**changes: object) -> str:
        chosen = {name: getattr(networks, name) for name in Config.__slots__} | changes
        return reader_of(Config(**chosen), "midas").fingerprint

    plain = named()
    assert "-16-CPUExecutionProvider-DisparityScale(" in plain
    spelt_out = {
        "saliency_mean": TRACER.mean,
        "saliency_deviation": TRACER.deviation,
        "saliency_cut": TRACER.cut,
        "saliency_normalise": False,
    }
    assert {named(saliency_size=16), named(saliency_preset="tracer"), named(**spelt_out)} == {plain}
    others = [
        named(saliency_preset="u2net"),
        named(saliency_preset="isnet"),
        named(saliency_cut=0.5),
        named(saliency_normalise=True),
    ]
    assert len({plain, *others}) == 5
    free = {"saliency_mean": (0.5,), "saliency_deviation": (1.0,), "saliency_cut": 0.5}
    assert named(**free, saliency_normalise=True) == named(saliency_preset="isnet")
