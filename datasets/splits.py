"""Cut a dataset into blocks: the unit of work, of folds, and of the permutation controls.

A block is a few items that are painted together. Blocks, not batches, decide which fold an item is in and whose labels
its controls borrow, so that batch size, shard size and order of work change no score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.errors import DatasetError
from datasets.items import Item, Split

BLOCK = 8
"""Items per block: enough for five different permutations, few enough to keep a block's activations in memory."""
FOLDS = 5
LEAST_TRAIN = 2 * FOLDS


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
        """``draws`` seeded orders of the block's items in which no item keeps its place."""
        rng = np.random.default_rng([self.index, len(self.items)])
        orders: list[list[int]] = []
        while len(orders) < draws:
            order = rng.permutation(len(self.items)).tolist()
            if all(place != item for place, item in enumerate(order)):
                orders.append(order)
        return orders


def limited(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """The first items of each split, ``limit`` in all, in the dataset's own proportion."""
    if limit is None or limit >= len(items):
        return tuple(items)
    train = [item for item in items if item.split == "train"]
    test = [item for item in items if item.split == "test"]
    keep = round(limit * len(train) / len(items))
    return (*train[:keep], *test[: limit - keep])


def blocks_of(items: Sequence[Item], split: Split) -> tuple[Block, ...]:
    """Cut one split into blocks of about ``BLOCK`` items; training blocks are dealt to the folds in turn.

    Raises DatasetError when there are too few training items for the folds, or no test item.
    """
    # By id, so that the order in which items are listed changes no score.
    chosen = sorted((item for item in items if item.split == split), key=lambda item: item.id)
    if split == "train" and len(chosen) < LEAST_TRAIN:
        raise DatasetError(
            f"{len(chosen)} training items are too few: {FOLDS} folds of at least 2 need {LEAST_TRAIN}; raise --limit"
        )
    if not chosen:
        raise DatasetError("there is no test item; raise --limit or give a dataset with a test split")
    count = max(FOLDS if split == "train" else 1, round(len(chosen) / BLOCK))
    edges = [round(k * len(chosen) / count) for k in range(count + 1)]
    return tuple(
        Block(k, split, k % FOLDS if split == "train" else 0, tuple(chosen[edges[k] : edges[k + 1]]))
        for k in range(count)
    )
