"""Cut a dataset into blocks: the unit of work, of folds, and of the permutation controls.

A block is a few items that are generated together. Blocks, not batches, decide which fold an item is in and whose labels
its controls borrow, so that batch size, shard size and order of work change no score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from datasets.errors import DatasetError
from datasets.items import Item, Split

BLOCK = 8
"""Items per block: enough for five different permutations, few enough to keep a block's activations in memory."""
FOLDS = 5
"""Of the training items; as many as there are items where those are fewer."""
LEAST_TRAIN = 3
"""Two folds to fit draft probes on, with a penalty that one chooses for the other, and one to choose thresholds on."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive items of one split."""

    index: int
    """Within its split."""
    split: Split
    fold: int
    """0 to FOLDS - 1 for training blocks; test blocks have fold 0, which means nothing."""
    items: tuple[Item, ...]

    def permutations(self, draws: int) -> list[list[int]]:
        """``draws`` different seeded orders of the block's items in which no item keeps its place.

        Raises ValueError when there are not so many: see ``draws_of``.
        """
        if draws > draws_of([self], draws):
            raise ValueError(
                f"{len(self.items)} items have no {draws} different orders in which none keeps its place"
            )
        rng = np.random.default_rng([self.index, len(self.items)])
        orders: list[list[int]] = []
        while len(orders) < draws:
            order = rng.permutation(len(self.items)).tolist()
            if order not in orders and all(site != item for site, item in enumerate(order)):
                orders.append(order)
        return orders


def fold_count(blocks: Iterable[Block]) -> int:
    """The number of folds of training blocks."""
    return 1 + max(block.fold for block in blocks)


def draws_of(blocks: Iterable[Block], most: int) -> int:
    """How many different permutations every block has, up to ``most``: none where one holds a single item."""
    # Derangements of n things: 0, 1, 2, 9 and then more than anybody asks for.
    return min((_derangements(len(block.items), most) for block in blocks), default=most)


def _derangements(items: int, most: int) -> int:
    fewer, count = 1, 0
    for n in range(2, items + 1):
        fewer, count = count, (n - 1) * (fewer + count)
        if count >= most:
            break
    return min(count, most)


def limited(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """The first items of each split, ``limit`` in all, in the dataset's own proportion.

    Of very few, more are for training: ``LEAST_TRAIN``, as long as one is left to test on.
    """
    if limit is None or limit >= len(items):
        return tuple(items)
    train = [item for item in items if item.split == "train"]
    test = [item for item in items if item.split == "test"]
    keep = max(round(limit * len(train) / len(items)), min(LEAST_TRAIN, limit - 1, len(train)))
    return (*train[:keep], *test[: limit - keep])


def blocks_of(items: Sequence[Item], split: Split) -> tuple[Block, ...]:
    """Cut one split into blocks of about ``BLOCK`` items; training blocks are dealt to the folds in turn.

    Raises DatasetError when there are fewer than ``LEAST_TRAIN`` training items, or no test item.
    """
    # By id, so that the order in which items are listed changes no score.
    chosen = sorted((item for item in items if item.split == split), key=lambda item: item.id)
    if split == "train" and len(chosen) < LEAST_TRAIN:
        raise DatasetError(
            f"{len(chosen)} training items are too few: fitting, penalties and thresholds need {LEAST_TRAIN} apart; "
            "raise --limit"
        )
    if not chosen:
        raise DatasetError(
            "there is no test item; raise --limit or give a dataset with a test split"
        )
    count = max(min(FOLDS, len(chosen)) if split == "train" else 1, round(len(chosen) / BLOCK))
    edges = [round(k * len(chosen) / count) for k in range(count + 1)]
    return tuple(
        Block(
            k, split, k % FOLDS if split == "train" else 0, tuple(chosen[edges[k] : edges[k + 1]])
        )
        for k in range(count)
    )


def count_items(blocks: Sequence[Block]) -> int:
    """Items of all blocks together."""
    return sum(len(block.items) for block in blocks)


def grouped(blocks: Sequence[Block], items: int) -> list[list[Block]]:
    """Consecutive blocks, so many together that a group has at least ``items`` items or none are left."""
    groups: list[list[Block]] = [[]]
    for block in blocks:
        if count_items(groups[-1]) >= items:
            groups.append([])
        groups[-1].append(block)
    return groups
