"""The search for the strength at which an image changes by a stated amount."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from bench.interventions.equal_change import CLOSE, ROUNDS, Matched, at_change
from probes.bootstrap import Array

WANTED = 0.1


def searched(change: Callable[[Array], Array], count: int = 1) -> tuple[Matched, list[Array]]:
    """Search images whose changes are ``change(strengths)``; also the strengths of every trial."""
    tried: list[Array] = []

    def evaluate(rows: Sequence[int], strengths: Array) -> tuple[Array, np.ndarray]:
        tried.append(strengths)
        outcome = np.round(1000 * strengths).astype(np.int64)
        return change(strengths), outcome[:, None]

    return at_change(evaluate, count, WANTED), tried


@pytest.mark.parametrize("expected", [1e-3, 0.02, 0.7, 1.5, 40.0, 700.0, 1e4])
@pytest.mark.parametrize("power", [0.4, 1.0, 1.6])
def test_a_change_that_rises_is_found_over_seven_orders_of_magnitude(
    expected: float, power: float
) -> None:
    found, tried = searched(lambda x: np.minimum(WANTED * (x / expected) ** power, 0.6))
    assert found.reached(WANTED).all()
    tolerance = 1.25 ** (1 / power)
    assert expected / tolerance <= found.strength[0] <= expected * tolerance
    assert len(tried) <= ROUNDS
    assert found.outcome[0, 0] == round(1000 * found.strength[0])


def test_the_search_ends_as_soon_as_the_change_is_close() -> None:
    found, tried = searched(lambda strength: WANTED * strength * 1.05)
    assert len(tried) == 1
    assert found.strength.tolist() == [1.0]
    assert found.change[0] <= WANTED * CLOSE


def test_images_that_are_done_are_not_tried_again() -> None:
    asked: list[list[int]] = []
    scales = np.array([0.1, 0.003, 0.1, 2.0])

    def evaluate(rows: Sequence[int], strengths: Array) -> tuple[Array, np.ndarray]:
        asked.append(list(rows))
        return scales[list(rows)] * strengths, np.array(rows)[:, None]

    found = at_change(evaluate, 4, WANTED)
    assert asked[0] == [0, 1, 2, 3]
    assert all(set(rows) <= {1, 3} for rows in asked[1:])
    assert found.outcome[:, 0].tolist() == [0, 1, 2, 3]
    assert found.reached(WANTED).all()
    np.testing.assert_allclose(found.strength, WANTED / scales, rtol=0.1)


def test_a_jump_over_the_stated_change_leaves_the_nearest_trial() -> None:
    found, tried = searched(lambda strength: np.where(strength < 3.0, 0.06, 0.3))
    assert len(tried) == ROUNDS
    assert not found.reached(WANTED).any()
    # 0.06 is nearer to 0.1 than 0.3 is, as factors.
    assert found.change.tolist() == [0.06]
    assert found.strength[0] < 3.0


def test_an_edit_without_any_effect_ends_and_is_not_reached() -> None:
    found, tried = searched(np.zeros_like)
    assert len(tried) == ROUNDS
    assert found.change.tolist() == [0.0]
    assert not found.reached(WANTED).any()


def test_a_change_that_falls_back_within_a_step_is_missed() -> None:
    found, tried = searched(
        lambda strength: np.where(strength < 3, 0.02, np.where(strength < 9, 0.12, 0.03))
    )
    assert len(tried) == ROUNDS
    assert not found.reached(WANTED).any()


def test_an_undefined_change_counts_as_too_large() -> None:
    found, _ = searched(lambda strength: np.where(strength > 50, np.nan, 0.02 * strength))
    assert found.reached(WANTED).all()
    assert found.strength[0] == pytest.approx(5.0, rel=0.1)


def test_parts_are_joined_in_their_order() -> None:
    first, _ = searched(lambda strength: 0.1 * strength)
    second, _ = searched(lambda strength: 0.4 * strength)
    joined = Matched.joined([first, second])
    assert joined.strength.tolist() == [*first.strength, *second.strength]
    assert joined.change.shape == (2,)
    assert joined.outcome[:, 0].tolist() == [*first.outcome[:, 0], *second.outcome[:, 0]]
