"""Tied groups of entries, and which entries are kept apart."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from bench.ledger.ties import letters, tied


def test_neighbours_that_do_not_differ_share_a_letter() -> None:
    groups = tied([0, 1, 2], [(0, 2)])
    assert groups == [{0, 1}, {1, 2}]
    assert [letters(groups, member) for member in range(3)] == ["a", "a b", "b"]


def test_without_differences_all_are_tied() -> None:
    assert tied([2, 0, 1], []) == [{0, 1, 2}]
    assert tied([7], []) == [{7}]


def test_the_best_come_first() -> None:
    assert tied([3, 1, 2], list(combinations([1, 2, 3], 2))) == [{3}, {1}, {2}]


@given(
    st.integers(1, 7).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.sets(
                st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(
                    lambda pair: pair[0] < pair[1]
                )
            ),
        )
    )
)
def test_groups_are_the_maximal_sets_without_a_difference(case: tuple[int, set]) -> None:
    count, differing = case
    sets = [
        set(members)
        for size in range(1, count + 1)
        for members in combinations(range(count), size)
        if not any({a, b} <= set(members) for a, b in differing)
    ]
    maximal = [group for group in sets if not any(group < other for other in sets)]
    groups = tied(range(count), differing)
    assert sorted(map(sorted, groups)) == sorted(map(sorted, maximal))


def test_letters_go_on_after_z() -> None:
    groups = [{number} for number in range(60)]
    assert [letters(groups, number) for number in (0, 25, 26, 51, 52)] == [
        "a",
        "z",
        "aa",
        "az",
        "ba",
    ]
