"""Cut a dataset into blocks: the units of work, of folds, and of the permutation controls.

A block is a few items that are generated together. Folds and permuted labels depend on blocks, not
on batches, so that batch size, shard size and order of work change no score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from datasets.errors import DatasetError
from datasets.items import Item, Split

BLOCK = 8
"""Items per block: enough for five permutations, few enough to hold their activations."""
FOLDS = 5
"""Folds of the training items, if there are as many items."""
LEAST_TRAIN = 3
"""Two folds to fit probes and choose penalties on, and one to choose thresholds on."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive items of one split."""

    index: int
    """Within its split."""
    split: Split
    fold: int
    """0 to FOLDS - 1 for training blocks; always 0 for test blocks."""
    items: tuple[Item, ...]

    def permutations(self, draws: int) -> list[list[int]]:
        """``draws`` different seeded derangements of the block's items.

        Raises ValueError if there are fewer: see ``draws_of``.
        """
        if draws > draws_of([self], draws):
            raise ValueError(
                f"{len(self.items)} items have no {draws} different orders "
                "in which none keeps its place"
            )
        rng = np.random.default_rng([self.index, len(self.items)])
        orders: list[list[int]] = []
        while len(orders) < draws:
            order = rng.permutation(len(self.items)).tolist()
            if order not in orders and all(index != item for index, item in enumerate(order)):
                orders.append(order)
        return orders


def fold_count(blocks: Iterable[Block]) -> int:
    """The number of folds of training blocks."""
    return 1 + max(block.fold for block in blocks)


def draws_of(blocks: Iterable[Block], most: int) -> int:
    """Number of different derangements of every block, up to ``most``; 0 for a single item."""
    return min((_derangements(len(block.items), most) for block in blocks), default=most)


def _derangements(items: int, most: int) -> int:
    # Their numbers for 1, 2, 3, 4 ... items are 0, 1, 2, 9 ...
    fewer, count = 1, 0
    for n in range(2, items + 1):
        fewer, count = count, (n - 1) * (fewer + count)
        if count >= most:
            break
    return min(count, most)


def limited(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """The first items of each split, ``limit`` in all, in the dataset's proportion.

    At least ``LEAST_TRAIN`` are training items, as long as one test item is left.
    """
    if limit is None or limit >= len(items):
        return tuple(items)
    train = [item for item in items if item.split == "train"]
    test = [item for item in items if item.split == "test"]
    count = max(round(limit * len(train) / len(items)), min(LEAST_TRAIN, limit - 1, len(train)))
    return (*train[:count], *test[: limit - count])


def blocks_of(items: Sequence[Item], split: Split) -> tuple[Block, ...]:
    """Cut one split into blocks of about ``BLOCK`` items; training blocks go to the folds in turn.

    Raises DatasetError for fewer than ``LEAST_TRAIN`` training items, or no test item.
    """
    # By id, so that the order in which items are listed changes no score.
    chosen = sorted((item for item in items if item.split == split), key=lambda item: item.id)
    if split == "train" and len(chosen) < LEAST_TRAIN:
        raise DatasetError(
            f"{len(chosen)} training items are too few: "
            f"fitting, penalties and thresholds need {LEAST_TRAIN} apart; raise --limit, or give "
            "more items the split train"
        )
    if not chosen:
        raise DatasetError(
            "there is no test item; raise --limit, or give a dataset with items of the split test "
            "(equal prompts without a split have the same one)"
        )
    count = max(min(FOLDS, len(chosen)) if split == "train" else 1, round(len(chosen) / BLOCK))
    edges = [round(k * len(chosen) / count) for k in range(count + 1)]
    folds = FOLDS if split == "train" else 1
    return tuple(
        Block(index, split, index % folds, tuple(chosen[start:end]))
        for index, (start, end) in enumerate(pairwise(edges))
    )


def count_items(blocks: Sequence[Block]) -> int:
    """Number of items in all blocks."""
    return sum(len(block.items) for block in blocks)


def grouped(blocks: Sequence[Block], items: int) -> list[list[Block]]:
    """Group consecutive blocks into groups of at least ``items`` items, the last excepted."""
    groups: list[list[Block]] = [[]]
    for block in blocks:
        if count_items(groups[-1]) >= items:
            groups.append([])
        groups[-1].append(block)
    return groups
