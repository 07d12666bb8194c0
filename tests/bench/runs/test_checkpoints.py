"""Whose turn it is to make a shard, and what is read back of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from tqdm import tqdm

from bench.runs.checkpoints import COSTS, MADE, Checkpoints, Work
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
    with pytest.raises(IncompleteError, match="2 of the 5 shards of the folds"):
        one.shared("the folds", first.works())
    found = two.shared("the folds", second.works())
    assert (first.made, second.made) == ([0, 2, 4], [1, 3])
    assert [int(part["value"]) for part in found] == list(range(COUNT))
    # What is there is not made again.
    assert [int(part["value"]) for part in one.shared("the folds", first.works())] == list(
        range(COUNT)
    )
    assert first.made == [0, 2, 4]


@pytest.mark.parametrize("workers", [Part(1, 3), Merger()])
def test_who_waits_for_nobody_does_all_that_needs_no_engine_and_stores_none_of_it(
    workers: Workers, tmp_path: Path
) -> None:
    works = Works()
    found = checkpoints(workers, tmp_path).shared("the probes", works.works())
    assert [int(part["value"]) for part in found] == list(range(COUNT))
    assert works.made == list(range(COUNT))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_costs_come_in_the_order_of_work_and_of_generated_shards_alone(tmp_path: Path) -> None:
    made = checkpoints(Workers(), tmp_path)
    made.make("the folds", Works().works())
    made.shared("the probes", [Work("draft-0000", lambda: {"weights": torch.ones(2)})])
    costs, taken = made.taken()
    assert [float(cost[0, 0]) for cost in costs] == list(range(COUNT))
    assert taken.processes == 1
    assert MADE in made.shards.read("draft-0000")


def test_a_damaged_shard_is_made_again_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints(Workers(), tmp_path).make("the folds", Works().works())
    path = tmp_path / "f1" / "fold-3.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    works = Works()
    checkpoints(Workers(), tmp_path).make("the folds", works.works())
    assert works.made == [3]
    assert str(path) in capsys.readouterr().err
