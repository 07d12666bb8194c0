"""617 prompts of the scene grammar with seeds: 246 training and 371 test items, as in the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets.errors import DatasetError
from datasets.items import Dataset, Item

if TYPE_CHECKING:
    from pathlib import Path

    from datasets.scenes import Scene

SEED = 617
"""Differs from the seeds of the training and held-out sets of ``datasets.render``."""
TRAIN, TOTAL = 246, 617


def _items(folder: Path | None = None) -> tuple[Item, ...]:
    if folder is not None:
        raise DatasetError(
            f"the dataset scenes617 is drawn, not read from {folder}; leave --prompts out"
        )

    import numpy as np

    from datasets.scenes import draw_scene

    seeds = np.random.default_rng(SEED).choice(2**31, TOTAL, replace=False)
    return tuple(
        Item(
            id=f"{index:03d}",
            prompt=draw_scene(SEED, index).attributes.prompt,
            seed=int(seed),
            split="train" if index < TRAIN else "test",
        )
        for index, seed in enumerate(seeds)
    )


def _scene(item: Item) -> Scene:
    from datasets.scenes import draw_scene

    return draw_scene(SEED, int(item.id))


DATASET = Dataset(items=_items, scene=_scene)
