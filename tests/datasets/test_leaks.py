"""Leaks across the split, against a comparison of every pair."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from datasets.items import Item
from datasets.leaks import (
    _weights,
    crossing_tests,
    leaks_of,
    normalised,
    same_items,
    same_texts,
)

PROMPTS = [
    ("train", "a large green cylinder on the old wooden table"),
    ("train", "two dogs that play in the snow at night"),
    ("train", "GE smart washer with stainless steel basket"),
    ("test", "A large  green cylinder on the old wooden table"),
    ("test", "two dogs that played in the snow at night"),
    ("test", "GE washer with stainless steel basket"),
    ("test", "富田店 and nothing else"),
]
ITEMS = [
    Item(str(index), prompt, index % 6, split) for index, (split, prompt) in enumerate(PROMPTS)
]


def pieces(prompt: str) -> Counter[str]:
    """Runs of 3 to 5 letters of words between blanks; a shorter word counts once."""
    counts: Counter[str] = Counter()
    for word in normalised(prompt).split():
        padded = f" {word} "
        for size in (3, 4, 5):
            starts = range(max(len(padded) - size, 0) + 1)
            counts.update(padded[start : start + size] for start in starts)
            if size >= len(padded):
                break
    return counts


def cosine(a: str, b: str) -> float:
    counts = [pieces(item.prompt) for item in ITEMS]
    documents = Counter(piece for count in counts for piece in count)

    def weights(prompt: str) -> dict[str, float]:
        return {
            piece: times * (math.log((1 + len(ITEMS)) / (1 + documents[piece])) + 1)
            for piece, times in pieces(prompt).items()
        }

    x, y = weights(a), weights(b)
    norms = math.sqrt(sum(v * v for v in x.values()) * sum(v * v for v in y.values()))
    return sum(value * y.get(piece, 0.0) for piece, value in x.items()) / norms


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_near_prompts_are_those_that_every_pair_compared_gives(threshold: float) -> None:
    expected = {}
    for a, b in itertools.product(ITEMS, ITEMS):
        crossing = (a.split, b.split) == ("train", "test")
        similarity = cosine(a.prompt, b.prompt)
        if crossing and normalised(a.prompt) != normalised(b.prompt) and similarity >= threshold:
            expected[a.id, b.id] = similarity
    pairs = leaks_of(ITEMS, threshold).near
    assert expected
    actual = {(pair.train.id, pair.test.id): pair.similarity for pair in pairs}
    assert actual == pytest.approx(expected)
    assert list(actual.values()) == sorted(actual.values(), reverse=True)


def test_groups_and_the_test_items_they_touch() -> None:
    leaks = leaks_of(ITEMS)
    assert [[item.id for item in group] for group in leaks.prompts] == [["0", "3"]]
    assert [[item.id for item in group] for group in leaks.seeds] == [["0", "6"]]
    assert leaks.crossing == 1 + len({pair.test.id for pair in leaks.near})


def test_one_side_alone_has_nothing_to_leak() -> None:
    assert leaks_of([item for item in ITEMS if item.split == "test"]).near == ()


def test_weights_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from datasets.sets.scenes617 import DATASET

    prompts = [item.prompt for item in (*ITEMS, *DATASET.items()[::20])]
    reference = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform(
        [normalised(prompt) for prompt in prompts]
    )
    ours = _weights([normalised(prompt) for prompt in prompts])
    assert ours.shape == reference.shape
    difference = (ours @ ours.T - reference @ reference.T).toarray()
    assert float(abs(difference).max()) < 1e-12


def test_prompts_of_the_shipped_set_cross_its_split() -> None:
    from datasets.sets.scenes617 import DATASET

    leaks = leaks_of(DATASET.items())
    assert (len(leaks.equal), leaks.crossing) == (52, 338)
    assert not leaks.equal & leaks.nearly_equal


def test_texts_that_become_one_are_named_and_equal_prompts_are_not() -> None:
    prompts = ["a b c", "A  b c", "a b d", "x y z"]
    items = [Item(str(n), prompt, n, "train") for n, prompt in enumerate(prompts)]
    (group,) = same_texts(items, ["a b", "a b", "a b", "x y"])
    assert [item.id for item in group] == ["0", "1", "2"]
    assert same_texts(items, ["a b c", "a b c", "a b d", "x y z"]) == ()


def test_equal_prompts_with_equal_seeds_are_one_image() -> None:
    items = [Item("a", "p", 1, "train"), Item("b", "p", 1, "test"), Item("c", "p", 2, "test")]
    (group,) = same_items(items)
    assert [item.id for item in crossing_tests([group])] == ["b"]
