"""Items: a prompt with its seed, on one side of the train/test split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datasets.scenes import Scene

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Item:
    """One picture to be painted."""

    id: str
    prompt: str
    seed: int
    """Seeds the initial latent; nothing else is random while a picture is painted."""
    split: Split


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set of items. A file of ``datasets/sets`` is one: it names this as ``DATASET``."""

    items: Callable[[], tuple[Item, ...]]
    scene: Callable[[Item], Scene] | None = None
    """The rendered scene that an item's prompt describes, where there is one (``--source rendered``)."""
