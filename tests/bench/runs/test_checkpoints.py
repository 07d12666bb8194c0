"""Whose turn it is to make a shard, and what is read back of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from tqdm import tqdm

from bench.runs.checkpoints import Checkpoints, Work
from bench.runs.shard_keys import COSTS, MADE, Stage
from bench.runs.workers import IncompleteError, Merger, Part, Workers
from extract.shards import Shards

COUNT = 5


class Patient(Workers):
    """A rank whose others come later."""

    def barrier(self) -> None:
        """Not wait."""


class Works:
    """Works that note who made them."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def works(self) -> list[Work]:
        return [
            Work(f"fold-{index}", partial(self._make, index), items=2) for index in range(COUNT)
        ]

    def _make(self, index: int) -> Mapping[str, Tensor]:
        self.made.append(index)
        return {"value": torch.tensor(index), COSTS: torch.full((1, 2), float(index))}


def checkpoints(workers: Workers, folder: Path) -> Checkpoints:
    return Checkpoints(workers, Shards(folder, "f1"), tqdm(disable=True))


def test_ranks_share_the_shards_and_each_reads_all(tmp_path: Path) -> None:
    first, second = Works(), Works()
    one, two = checkpoints(Patient(0, 2), tmp_path), checkpoints(Patient(1, 2), tmp_path)
    with pytest.raises(IncompleteError, match="2 of the 5 shards of the training images"):
        one.shared(Stage.TRAINING, first.works())
    parts = two.shared(Stage.TRAINING, second.works())
    assert (first.made, second.made) == ([0, 2, 4], [1, 3])
    assert [int(part["value"]) for part in parts] == list(range(COUNT))
    # What is there is not made again.
    assert [int(part["value"]) for part in one.shared(Stage.TRAINING, first.works())] == list(
        range(COUNT)
    )
    assert first.made == [0, 2, 4]


@pytest.mark.parametrize("workers", [Part(1, 3), Merger()])
def test_who_waits_for_nobody_does_all_that_needs_no_engine_and_stores_none_of_it(
    workers: Workers, tmp_path: Path
) -> None:
    works = Works()
    parts = checkpoints(workers, tmp_path).shared(Stage.DRAFT, works.works())
    assert [int(part["value"]) for part in parts] == list(range(COUNT))
    assert works.made == list(range(COUNT))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_costs_come_in_the_order_of_work_and_of_generated_shards_alone(tmp_path: Path) -> None:
    made = checkpoints(Workers(), tmp_path)
    made.make(Stage.TRAINING, Works().works())
    made.shared(Stage.DRAFT, [Work("draft-0000", lambda: {"weights": torch.ones(2)})])
    cost = made.cost()
    assert [float(call[0, 0]) for call in cost.calls] == list(range(COUNT))
    assert cost.processes == 1
    assert MADE in made.shards.read("draft-0000")


def test_a_damaged_shard_is_made_again_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints(Workers(), tmp_path).make(Stage.TRAINING, Works().works())
    path = tmp_path / "f1" / "fold-3.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    works = Works()
    checkpoints(Workers(), tmp_path).make(Stage.TRAINING, works.works())
    assert works.made == [3]
    assert str(path) in capsys.readouterr().err
