"""Items: prompts with seeds, each in the training or the test split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from datasets.scenes import Scene

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Item:
    """One image to generate."""

    id: str
    prompt: str
    seed: int
    """Seeds the initial latent, the only random part of a generation."""
    split: Split


@runtime_checkable
class Items(Protocol):
    """Returns the items of a dataset."""

    def __call__(self, folder: Path | None = None) -> tuple[Item, ...]:
        """The items, read from ``folder`` if the dataset is kept in files.

        Raises DatasetError for invalid files, or for a folder if the dataset has no files.
        """
        ...


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set of items. Each file of ``datasets/sets`` defines one as ``DATASET``."""

    items: Items
    fetch: Callable[[Path], Path] | None = None
    """Download the files of a public dataset below a cache folder, and return their folder."""
    scene: Callable[[Item], Scene] | None = None
    """The scene that an item's prompt describes, for ``--source rendered``; None without scenes."""
