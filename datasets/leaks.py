"""What training and test items share: equal prompts, equal seeds, and prompts that differ by a few letters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from datasets.items import Item

THRESHOLD = 0.8
"""Cosine similarity from which two prompts are called nearly equal: one word changed in a prompt of about eight."""
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Near:
    """Two prompts on different sides of the split that are nearly equal."""

    train: Item
    test: Item
    similarity: float


@dataclass(frozen=True, slots=True)
class Leaks:
    """Groups of items that share something, each in the dataset's order."""

    prompts: tuple[tuple[Item, ...], ...]
    """Equal but for case and spacing."""
    seeds: tuple[tuple[Item, ...], ...]
    near: tuple[Near, ...]
    """The most similar first, equal ones left out."""

    @property
    def crossing(self) -> int:
        """Test items whose prompt, or nearly, is also a training item's: those that could be scored from memory."""
        found = {
            item.id
            for group in self.prompts
            if crosses(group)
            for item in group
            if item.split == "test"
        }
        return len(found | {pair.test.id for pair in self.near})


def leaks_of(items: Sequence[Item], threshold: float = THRESHOLD) -> Leaks:
    """Everything that two items share. Prompts of more than one line count like any other."""
    return Leaks(
        prompts=_groups(items, lambda item: plain(item.prompt)),
        seeds=_groups(items, lambda item: item.seed),
        near=_near(items, threshold),
    )


def plain(prompt: str) -> str:
    """A prompt without what hardly changes an image: case and spacing."""
    return " ".join(prompt.casefold().split())


def crosses(group: Sequence[Item]) -> bool:
    """Whether a group has items on both sides of the split."""
    return len({item.split for item in group}) > 1


def _groups(items: Sequence[Item], key: Callable[[Item], Hashable]) -> tuple[tuple[Item, ...], ...]:
    found: defaultdict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return tuple(tuple(group) for group in found.values() if len(group) > 1)


def _near(items: Sequence[Item], threshold: float) -> tuple[Near, ...]:
    """Pairs across the split by the cosine of TF-IDF weights of 3 to 5 letters in a row, within words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    train = [item for item in items if item.split == "train"]
    test = [item for item in items if item.split == "test"]
    if not train or not test:
        return ()
    weigh = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    weights = weigh.fit_transform([plain(item.prompt) for item in (*train, *test)])
    ours, theirs = weights[: len(train)], weights[len(train) :]
    pairs = []
    for start in range(0, len(test), _ROWS_AT_ONCE):
        similar = (theirs[start : start + _ROWS_AT_ONCE] @ ours.T).tocoo()
        for row, column, value in zip(similar.row, similar.col, similar.data, strict=True):
            pair = Near(train[column], test[start + row], float(value))
            if value >= threshold and plain(pair.train.prompt) != plain(pair.test.prompt):
                pairs.append(pair)
    return tuple(sorted(pairs, key=lambda pair: (-pair.similarity, pair.train.id, pair.test.id)))
