"""Overlap of training and test items: equal prompts, equal seeds, and nearly equal prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

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
        return len(self.equal) + len(self.nearly_equal)

    @property
    def equal(self) -> frozenset[str]:
        """Ids of the test items whose prompt equals a training prompt."""
        return frozenset(item.id for item in crossing_tests(self.prompts))

    @property
    def nearly_equal(self) -> frozenset[str]:
        """Ids of further test items whose prompt nearly equals a training prompt."""
        return frozenset(pair.test.id for pair in self.near) - self.equal


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


def crossing_tests(groups: Sequence[Sequence[Item]]) -> list[Item]:
    """The test items of the groups that have training items too."""
    return [item for group in groups if crosses(group) for item in group if item.split == "test"]


def same_items(items: Sequence[Item]) -> tuple[tuple[Item, ...], ...]:
    """Groups of items with equal prompts and seeds, whose images are the same."""
    return _groups(items, lambda item: (item.prompt, item.seed))


def same_texts(items: Sequence[Item], texts: Sequence[Hashable]) -> tuple[tuple[Item, ...], ...]:
    """Groups of items whose different prompts are one text for an encoder.

    ``texts`` holds what the encoder reads of every item.
    """
    text = dict(zip(items, texts, strict=True))
    return tuple(
        group
        for group in _groups(items, lambda item: text[item])
        if len({normalised(item.prompt) for item in group}) > 1
    )


def _groups(items: Sequence[Item], key: Callable[[Item], Hashable]) -> tuple[tuple[Item, ...], ...]:
    groups: defaultdict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _near(items: Sequence[Item], threshold: float) -> tuple[SimilarPair, ...]:
    """Pairs across the split by the cosine of TF-IDF weights of 3- to 5-grams within words."""
    train = [item for item in items if item.split == "train"]
    test = [item for item in items if item.split == "test"]
    if not train or not test:
        return ()
    prompts = [normalised(item.prompt) for item in (*train, *test)]
    weights = _weights(prompts)
    train_weights, test_weights = weights[: len(train)], weights[len(train) :]
    pairs = []
    for start in range(0, len(test), _ROWS_AT_ONCE):
        similar = (test_weights[start : start + _ROWS_AT_ONCE] @ train_weights.T).tocoo()
        for index in np.flatnonzero(similar.data >= threshold):
            column, row = int(similar.col[index]), start + int(similar.row[index])
            if prompts[column] != prompts[len(train) + row]:
                pairs.append(SimilarPair(train[column], test[row], float(similar.data[index])))
    return tuple(sorted(pairs, key=lambda pair: (-pair.similarity, pair.train.id, pair.test.id)))


def _weights(prompts: Sequence[str]) -> csr_matrix:
    """TF-IDF weights (prompts x pieces), as scikit-learn's ``TfidfVectorizer`` gives them.

    Written out because a run computes them when it starts, and importing scikit-learn takes longer.
    """
    columns: dict[str, int] = {}
    of_word: dict[str, list[int]] = {}
    indices: list[int] = []
    ends = [0]
    for prompt in prompts:
        for word in prompt.split():
            if word not in of_word:
                of_word[word] = [
                    columns.setdefault(piece, len(columns)) for piece in _pieces(f" {word} ")
                ]
            indices += of_word[word]
        ends.append(len(indices))
    counts = csr_matrix(
        (np.ones(len(indices)), indices, ends), shape=(len(prompts), max(len(columns), 1))
    )
    counts.sum_duplicates()
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    counts.data *= (np.log((1 + len(prompts)) / (1 + documents)) + 1)[counts.indices]
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1))).ravel()
    counts.data /= np.repeat(np.where(norms > 0, norms, 1.0), np.diff(counts.indptr))
    return counts


def _pieces(padded: str) -> list[str]:
    """Runs of 3 to 5 letters; a shorter word counts once."""
    pieces = []
    for size in (3, 4, 5):
        starts = range(max(len(padded) - size, 0) + 1)
        pieces += [padded[start : start + size] for start in starts]
        if size >= len(padded):
            break
    return pieces
