from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import DatasetError
from datasets.items import Item
from datasets.splits import BLOCK, FOLDS, LEAST_TRAIN, Block, blocks_of, draws_of, limited

DRAWS = 5


def items(train: int, test: int) -> tuple[Item, ...]:
    """Training and test items in random order."""
    ids = [f"{number:04d}" for number in range(train + test)]
    splits = np.random.default_rng(0).permutation(["train"] * train + ["test"] * test)
    return tuple(
        Item(id_, f"prompt {id_}", int(id_), str(split))
        for id_, split in zip(ids, splits, strict=True)
    )


@pytest.mark.parametrize(
    ("train", "test"), [(3, 1), (10, 1), (11, 3), (23, 8), (44, 9), (246, 371)]
)
def test_every_item_is_in_one_block_of_its_split(train: int, test: int) -> None:
    everything = items(train, test)
    for split, count in (("train", train), ("test", test)):
        blocks = blocks_of(everything, split)
        seen = [item for block in blocks for item in block.items]
        assert len(seen) == len(set(seen)) == count
        assert set(seen) == {item for item in everything if item.split == split}
        assert [block.index for block in blocks] == list(range(len(blocks)))
        assert {block.split for block in blocks} == {split}


@pytest.mark.parametrize("train", [10, 11, 23, 41, 100, 246])
def test_folds_are_balanced_and_none_is_empty(train: int) -> None:
    blocks = blocks_of(items(train, 1), "train")
    per_fold = np.bincount([block.fold for block in blocks], minlength=FOLDS)
    assert len(per_fold) == FOLDS
    assert per_fold.min() >= 1
    assert per_fold.max() - per_fold.min() <= 1
    sizes = [len(block.items) for block in blocks]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    images = np.bincount([block.fold for block in blocks], weights=sizes)
    assert images.max() - images.min() <= BLOCK + 1


def test_the_order_of_items_changes_no_block() -> None:
    everything = items(40, 20)
    permuted = [everything[index] for index in np.random.default_rng(1).permutation(60)]
    for split in ("train", "test"):
        assert blocks_of(permuted, split) == blocks_of(everything, split)


@pytest.mark.parametrize("train", [3, 4, 5, 9])
def test_fewer_items_than_two_per_fold_give_a_fold_to_each_or_one_more(train: int) -> None:
    blocks = blocks_of(items(train, 1), "train")
    assert [block.fold for block in blocks] == list(range(min(train, FOLDS)))
    assert {len(block.items) for block in blocks} <= {1, 2}


@pytest.mark.parametrize(
    ("train", "draws"), [(3, 0), (9, 0), (10, 1), (14, 1), (15, 2), (19, 2), (20, 5), (246, 5)]
)
def test_permutations_are_different_derangements_as_many_as_the_smallest_block_has(
    train: int, draws: int
) -> None:
    blocks = blocks_of(items(train, 1), "train")
    assert draws_of(blocks, DRAWS) == draws
    smallest = min(blocks, key=lambda block: len(block.items))
    if draws < DRAWS:
        with pytest.raises(ValueError, match="different orders"):
            smallest.permutations(draws + 1)
    for block in blocks:
        orders = block.permutations(draws)
        assert len({str(order) for order in orders}) == len(orders) == draws
        for order in orders:
            assert sorted(order) == list(range(len(block.items)))
            assert all(item != index for index, item in enumerate(order))


def test_permutations_depend_on_the_block_alone() -> None:
    blocks = blocks_of(items(60, 10), "train")
    expected = [block.permutations(DRAWS) for block in blocks]
    for block, orders in reversed(list(zip(blocks, expected, strict=True))):
        assert block.permutations(DRAWS) == orders
        assert block.permutations(2) == orders[:2]
    assert len({str(orders) for orders in expected}) == len(blocks)


def test_permutations_are_drawn_evenly_from_all_derangements() -> None:
    four = items(4, 0)
    counts: dict[str, int] = {}
    for index in range(300):
        for order in Block(index, "train", 0, four).permutations(3):
            counts[str(order)] = counts.get(str(order), 0) + 1
    assert len(counts) == 9
    assert all(abs(count - 100) < 45 for count in counts.values())


def test_too_few_training_items_are_refused_in_words() -> None:
    assert blocks_of(items(LEAST_TRAIN, 1), "train")
    with pytest.raises(DatasetError, match=r"2 training items are too few.*raise --limit"):
        blocks_of(items(LEAST_TRAIN - 1, 5), "train")


def test_a_missing_test_split_is_refused_in_words() -> None:
    with pytest.raises(DatasetError, match="no test item"):
        blocks_of(items(20, 0), "test")


@pytest.mark.parametrize("limit", [20, 50, 61, 100, 400, 616])
def test_limited_keeps_the_proportion_and_the_first_items(
    scenes617: tuple[Item, ...], limit: int
) -> None:
    limited_items = limited(scenes617, limit)
    assert len(limited_items) == limit
    for split, share in (("train", 246 / 617), ("test", 371 / 617)):
        chosen = [item for item in limited_items if item.split == split]
        assert abs(len(chosen) - limit * share) <= 0.5
        assert chosen == [item for item in scenes617 if item.split == split][: len(chosen)]


@pytest.mark.parametrize(("limit", "train"), [(2, 1), (4, 3), (5, 3), (7, 3), (8, 3), (9, 4)])
def test_of_very_few_enough_are_for_training(
    scenes617: tuple[Item, ...], limit: int, train: int
) -> None:
    limited_items = limited(scenes617, limit)
    assert len(limited_items) == limit
    assert sum(item.split == "train" for item in limited_items) == train


@pytest.mark.parametrize("limit", [None, 617, 1000])
def test_no_limit_keeps_everything(scenes617: tuple[Item, ...], limit: int | None) -> None:
    assert limited(scenes617, limit) == scenes617
