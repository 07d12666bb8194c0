"""Training of the shipped model: checkpoints, and files that are kept only when complete."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from engines.errors import EngineError
from engines.models.tiny import train as command
from engines.models.tiny.architecture import make_vae
from engines.models.tiny.rendering import render_set
from engines.models.tiny.training import train
from engines.training import __main__ as zoo
from engines.training import controlnet
from engines.training.latents import rendered_scenes

RGB = np.zeros((2, 3, 64, 64), dtype=np.uint8)


def fitted(checkpoint: Path, steps: int, learning_rate: float = 0.1) -> tuple[Tensor, list[int]]:
    """The trained weight of a small module, and the steps that this session took."""
    module = nn.Linear(1, 1)
    nn.init.ones_(module.weight)
    nn.init.zeros_(module.bias)
    taken: list[int] = []

    def loss_of(step: int) -> Tensor:
        taken.append(step)
        return module(torch.ones(1)).square().sum()

    averaged = train(
        module, loss_of, steps=steps, learning_rate=learning_rate, checkpoint=checkpoint
    )
    return next(averaged.parameters()).detach(), taken


def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    weight, taken = fitted(tmp_path / "a.pt", 4)
    again, none = fitted(tmp_path / "a.pt", 4)
    assert torch.equal(weight, again)
    assert (taken, none) == ([0, 1, 2, 3], [])
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.pt"
    fitted(checkpoint, 4)
    before = checkpoint.read_bytes()
    with pytest.raises(EngineError, match=r"a\.pt holds another training \(steps 4 instead of 8\)"):
        fitted(checkpoint, 8)
    with pytest.raises(EngineError, match=r"learning rate 0\.1 instead of 0\.2"):
        fitted(checkpoint, 4, learning_rate=0.2)
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_that_states_no_schedule_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.pt"
    fitted(checkpoint, 4)
    state = torch.load(checkpoint, weights_only=True)
    del state["schedule"]
    torch.save(state, checkpoint)
    with pytest.raises(EngineError, match=r"steps not stated instead of 4.*another --work"):
        fitted(checkpoint, 4)


class CutOff:
    """An autoencoder whose writing stops between its configuration and its weights."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}", encoding="utf-8")
        raise KeyboardInterrupt


def test_an_autoencoder_that_was_cut_off_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "images_of", lambda *_: (RGB, ["", ""]))
    monkeypatch.setattr(command, "train_vae", lambda *_: CutOff())
    with pytest.raises(KeyboardInterrupt):
        command.trained_vae(tmp_path)
    assert not (tmp_path / "vae").exists()
    made = make_vae()
    monkeypatch.setattr(command, "train_vae", lambda *_: made)
    assert_same(command.trained_vae(tmp_path), made)
    monkeypatch.setattr(command, "train_vae", lambda *_: pytest.fail("trained again"))
    assert_same(command.trained_vae(tmp_path), made)
    assert [path.name for path in tmp_path.iterdir()] == ["vae"]


def assert_same(one: AutoencoderKL, other: AutoencoderKL) -> None:
    expected = other.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in one.state_dict().items())


def test_latents_that_were_cut_off_are_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_tensors: dict[str, Tensor], file: Path) -> None:
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    vae = make_vae().eval()
    with monkeypatch.context() as patch:
        patch.setattr(command, "save_file", stop)
        with pytest.raises(KeyboardInterrupt):
            command.scaled_latents(vae, RGB, tmp_path)
    straight, mirror = command.scaled_latents(vae, RGB, tmp_path)
    assert straight.shape == mirror.shape == (2, 4, 16, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["latents.safetensors"]


@pytest.mark.parametrize(
    "call",
    [
        lambda work: render_set("train", work / "train"),
        rendered_scenes,
        lambda work: command.images_of("train", work),
    ],
)
def test_a_renderer_that_fails_ends_with_a_sentence(
    call: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: list[str], *, check: bool) -> SimpleNamespace:
        if check:
            raise subprocess.CalledProcessError(2, arguments)
        return SimpleNamespace(returncode=2)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(EngineError, match=r"cannot render scenes into .*train"):
        call(tmp_path)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (command, []),
        (zoo, ["unet-noise"]),
        (controlnet, ["--condition", "mask"]),
    ],
)
def test_every_trainer_ends_with_the_sentence_of_an_error(
    module: SimpleNamespace,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise EngineError("steps 4 instead of 8; give another --work")

    monkeypatch.setattr(module, "train_and_write", fail)
    monkeypatch.setattr("sys.argv", ["train", *arguments, "--out", "nowhere"])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.endswith(": steps 4 instead of 8; give another --work\n")
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (command, ["--steps", "0"]),
        (zoo, ["unet-noise", "--steps", "-1"]),
        (zoo, ["unet-noise", "--seed", "-1"]),
        (zoo, ["unet-noise", "--snapshots", "16,x"]),
        (zoo, ["unet-noise", "--snapshots", "0"]),
        (controlnet, ["--condition", "mask", "--steps", "many"]),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    module: SimpleNamespace,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "train_and_write", lambda *_: pytest.fail("it trains"))
    monkeypatch.setattr("sys.argv", ["train", *arguments, "--out", "nowhere"])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 2
    assert "is no whole number of at least" in capsys.readouterr().err
