"""Overlap of training and test items: equal prompts, equal seeds, and nearly equal prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from datasets.items import Item

THRESHOLD = 0.8
"""Least cosine similarity of nearly equal prompts: one word of about eight differs."""
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """Nearly equal prompts of a training and a test item."""

    train: Item
    test: Item
    similarity: float


@dataclass(frozen=True, slots=True)
class Leaks:
    """Groups of items with equal prompts or seeds, and pairs of nearly equal prompts."""

    prompts: tuple[tuple[Item, ...], ...]
    """Equal but for case and spacing."""
    seeds: tuple[tuple[Item, ...], ...]
    near: tuple[SimilarPair, ...]
    """The most similar first, without equal prompts."""

    @property
    def crossing(self) -> int:
        """Number of test items whose prompt equals, or nearly equals, a training prompt."""
        equal = {
            item.id
            for group in self.prompts
            if crosses(group)
            for item in group
            if item.split == "test"
        }
        return len(equal | {pair.test.id for pair in self.near})


def leaks_of(items: Sequence[Item], threshold: float = THRESHOLD) -> Leaks:
    """Find all leaks among ``items``."""
    return Leaks(
        prompts=_groups(items, lambda item: normalised(item.prompt)),
        seeds=_groups(items, lambda item: item.seed),
        near=_near(items, threshold),
    )


def normalised(prompt: str) -> str:
    """A prompt without case and spacing, which hardly change an image."""
    return " ".join(prompt.casefold().split())


def crosses(group: Sequence[Item]) -> bool:
    """Whether a group has both training and test items."""
    return len({item.split for item in group}) > 1


def _groups(items: Sequence[Item], key: Callable[[Item], Hashable]) -> tuple[tuple[Item, ...], ...]:
    groups: defaultdict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _near(items: Sequence[Item], threshold: float) -> tuple[SimilarPair, ...]:
    """Pairs across the split by the cosine of TF-IDF weights of 3- to 5-grams within words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    train = [item for item in items if item.split == "train"]
    test = [item for item in items if item.split == "test"]
    if not train or not test:
        return ()
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    weights = vectorizer.fit_transform([normalised(item.prompt) for item in (*train, *test)])
    train_weights, test_weights = weights[: len(train)], weights[len(train) :]
    pairs = []
    for start in range(0, len(test), _ROWS_AT_ONCE):
        similar = (test_weights[start : start + _ROWS_AT_ONCE] @ train_weights.T).tocoo()
        for row, column, value in zip(similar.row, similar.col, similar.data, strict=True):
            pair = SimilarPair(train[column], test[start + row], float(value))
            prompts = {normalised(pair.train.prompt), normalised(pair.test.prompt)}
            if value >= threshold and len(prompts) == 2:
                pairs.append(pair)
    return tuple(sorted(pairs, key=lambda pair: (-pair.similarity, pair.train.id, pair.test.id)))
