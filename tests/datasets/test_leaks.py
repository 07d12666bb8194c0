"""What crosses the split, against the obvious comparison of every pair."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from datasets.items import Item
from datasets.leaks import leaks_of, plain

PROMPTS = [
    ("train", "a large green cylinder on the old wooden table"),
    ("train", "two dogs that play in the snow at night"),
    ("train", "GE smart washer with stainless steel basket"),
    ("test", "A large  green cylinder on the old wooden table"),
    ("test", "two dogs that played in the snow at night"),
    ("test", "GE washer with stainless steel basket"),
    ("test", "富田店 and nothing else"),
]
ITEMS = [Item(str(site), prompt, site % 6, split) for site, (split, prompt) in enumerate(PROMPTS)]


def pieces(prompt: str) -> Counter[str]:
    """Runs of 3 to 5 letters within words, each word between blanks; a short word counts once, whole."""
    found: Counter[str] = Counter()
    for word in plain(prompt).split():
        padded = f" {word} "
        for size in (3, 4, 5):
            found.update(padded[at : at + size] for at in range(max(len(padded) - size, 0) + 1))
            if size >= len(padded):
                break
    return found


def cosine(a: str, b: str) -> float:
    counts = [pieces(item.prompt) for item in ITEMS]
    known = Counter(piece for count in counts for piece in count)

    def weights(prompt: str) -> dict[str, float]:
        return {
            piece: times * (math.log((1 + len(ITEMS)) / (1 + known[piece])) + 1)
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
        if (
            crossing
            and plain(a.prompt) != plain(b.prompt)
            and cosine(a.prompt, b.prompt) >= threshold
        ):
            expected[a.id, b.id] = cosine(a.prompt, b.prompt)
    found = leaks_of(ITEMS, threshold).near
    assert expected
    assert {(pair.train.id, pair.test.id): pair.similarity for pair in found} == pytest.approx(
        expected
    )
    assert [pair.similarity for pair in found] == sorted(
        (pair.similarity for pair in found), reverse=True
    )


def test_groups_and_the_test_items_they_touch() -> None:
    found = leaks_of(ITEMS)
    assert [[item.id for item in group] for group in found.prompts] == [["0", "3"]]
    assert [[item.id for item in group] for group in found.seeds] == [["0", "6"]]
    assert found.crossing == 1 + len({pair.test.id for pair in found.near})


def test_one_side_alone_has_nothing_to_leak() -> None:
    assert leaks_of([item for item in ITEMS if item.split == "test"]).near == ()
