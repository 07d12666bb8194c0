"""Checkpoints of the zoo's trainer belong to one schedule: steps, seed, recipe and snapshots."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engines.errors import EngineError
from engines.models.tiny.checkpoint import Checkpoint
from engines.training import command, loop
from engines.training.loop import Batch, Trained, train
from engines.training.objectives import noise_prediction
from engines.training.recipes import Network

STEPS = 4


class Small(Network):
    """A network of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, noisy: Tensor, _timestep: Tensor) -> Tensor:
        return self.scale * noisy

    def pipeline(self) -> Any:
        raise AssertionError("the test writes snapshots itself")


class Clock:
    """A clock that batches advance."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock; the trainer saves after every step and writes its weight as a snapshot."""
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)

    def write(network: Small, out: Path) -> None:
        out.mkdir(exist_ok=True)
        (out / "scale.txt").write_text(str(float(network.scale)), encoding="utf-8")

    monkeypatch.setattr(loop, "write", write)

    def save(checkpoint: Checkpoint, **state: object) -> None:
        clock.now += 1
        stored_save(checkpoint, **state)

    stored_save = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", save)
    return clock


Run = Callable[..., Trained]


@pytest.fixture
def run(tmp_path: Path, clock: Clock) -> Run:
    """Trains for ten seconds a step, until the step ``stop``."""

    def run(stop: int | None = None, **changes: Any) -> Trained:
        def batch(step: int) -> Batch:
            if step == stop:
                raise KeyboardInterrupt
            clock.now += 10
            generator = torch.Generator().manual_seed(step)
            clean, noise = torch.randn(2, 2, 4, 16, 16, generator=generator)
            return clean, noise, torch.randn(2, generator=generator)

        options: dict[str, Any] = {
            "recipe": "small",
            "seed": 0,
            "steps": STEPS,
            "snapshots": {},
            **changes,
        }
        return train(
            Small(), noise_prediction, batch, work=tmp_path, device="cpu", graph=False, **options
        )

    return run


def snapshots(folder: Path, *numbers: int) -> dict[int, Path]:
    return {number: folder / f"at-{number}" for number in numbers}


def test_more_steps_do_not_go_on_from_weights_that_are_cooled_down(
    run: Run, tmp_path: Path
) -> None:
    run()
    before = (tmp_path / "small-0.pt").read_bytes()
    with pytest.raises(EngineError, match=r"small-0\.pt.*\(steps 4 instead of 32\).*--work"):
        run(steps=32)
    assert (tmp_path / "small-0.pt").read_bytes() == before


@pytest.mark.parametrize("changes", [{"seed": 1}, {"recipe": "large"}])
def test_a_checkpoint_under_the_name_of_another_is_refused(
    run: Run, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stop=2)
    name = f"{changes.get('recipe', 'small')}-{changes.get('seed', 0)}.pt"
    (tmp_path / "small-0.pt").rename(tmp_path / name)
    ((what, value),) = changes.items()
    with pytest.raises(EngineError, match=f"{what} .* instead of {value}"):
        run(**changes)


def test_seconds_are_those_of_all_sessions(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stop=3)
    # Saving takes a second, which counts where training goes on after it.
    whole = run().seconds
    assert 10 * STEPS <= whole < 11 * STEPS
    assert run().seconds == whole


def test_the_record_tells_the_seconds_of_training(tmp_path: Path) -> None:
    command.write_record(
        Namespace(seed=0, steps=STEPS, device="cpu", out=tmp_path), "small", Small(), 12.34
    )
    assert json.loads((tmp_path / "training.json").read_text())["seconds"] == 12.3


def test_a_snapshot_that_is_past_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stop=3)
    with pytest.raises(EngineError, match=r"at-2 .*step 3 already; leave 2 out of --snapshots"):
        run(snapshots=snapshots(tmp_path, 2, 4))
    run(snapshots=snapshots(tmp_path, 4))
    assert (tmp_path / "at-4").is_dir()


def test_the_same_command_resumes_after_its_snapshots(run: Run, tmp_path: Path) -> None:
    wanted = snapshots(tmp_path, 1, 2, 4)
    with pytest.raises(KeyboardInterrupt):
        run(stop=3, snapshots=wanted)
    cut = {number: (wanted[number] / "scale.txt").read_text() for number in (1, 2)}
    run(snapshots=wanted)
    run(snapshots=wanted)
    assert {number: (wanted[number] / "scale.txt").read_text() for number in (1, 2)} == cut
    assert wanted[4].is_dir()


def test_past_snapshots_in_another_folder_or_deleted_ones_are_refused(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "other" / "at-1").mkdir(parents=True)
    run(snapshots=snapshots(tmp_path, 1))
    with pytest.raises(EngineError, match="other/at-1 cannot be written"):
        run(snapshots=snapshots(tmp_path / "other", 1))
    (tmp_path / "at-1" / "scale.txt").unlink()
    (tmp_path / "at-1").rmdir()
    with pytest.raises(EngineError, match="at-1 cannot be written"):
        run(snapshots=snapshots(tmp_path, 1))


def test_a_snapshot_after_the_last_step_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="after 5 of 4 steps"):
        run(snapshots=snapshots(tmp_path, 5))
