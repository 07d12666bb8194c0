"""Items: a prompt with its seed, on one side of the train/test split."""

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
    """One image to be generated."""

    id: str
    prompt: str
    seed: int
    """Seeds the initial latent; nothing else is random while an image is generated."""
    split: Split


@runtime_checkable
class Items(Protocol):
    """Gives the items of a dataset."""

    def __call__(self, folder: Path | None = None) -> tuple[Item, ...]:
        """The items, from the files in ``folder`` where the dataset is read from files.

        Raises DatasetError when the files are not as needed, or when a folder is given and none is read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set of items. A file of ``datasets/sets`` is one: it names this as ``DATASET``."""

    items: Items
    fetch: Callable[[Path], Path] | None = None
    """Download the files of a public dataset below a cache folder, and give the folder they then lie in."""
    scene: Callable[[Item], Scene] | None = None
    """The rendered scene that an item's prompt describes, where there is one (``--source rendered``)."""
