"""Grids of tokens: found from proportions, written to names, and read again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.grid import WHOLE, Grid

SIZES = st.integers(1, 40)


@pytest.mark.parametrize(
    ("tokens", "height", "width", "grid"),
    [
        (256, 64, 64, Grid(16, 16)),
        (49, 512, 512, Grid(7, 7)),
        (384, 64, 96, Grid(16, 24)),
        (6, 16, 24, Grid(2, 3)),
        (6, 24, 16, Grid(3, 2)),
        (24, 8, 768, None),
        (48, 64, 64, None),
        (256, 64, 96, None),
        (5, 16, 24, None),
        (0, 16, 24, None),
    ],
)
def test_a_grid_has_the_proportions_of_its_image(
    tokens: int, height: int, width: int, grid: Grid | None
) -> None:
    if grid is not None:
        assert Grid.of(tokens, height, width) == grid
        return
    message = f"{tokens} tokens do not form a grid with the proportions of {height} x {width}"
    with pytest.raises(ValueError, match=re.escape(message)):
        Grid.of(tokens, height, width)


def test_one_token_stands_for_an_image_of_any_size() -> None:
    assert Grid.of(1, 64, 96) == Grid.of(1, 7, 5) == WHOLE == Grid(1, 1)


@given(SIZES, SIZES, SIZES)
def test_every_grid_is_found_again(rows: int, columns: int, block: int) -> None:
    grid = Grid(rows, columns)
    assert Grid.of(grid.tokens, rows * block, columns * block) == grid
    assert Grid.parse(grid.key) == Grid.parse(str(grid)) == grid


def test_square_grids_are_stored_as_one_number() -> None:
    square, wide = Grid(16, 16), Grid(12, 16)
    assert (square.side, square.key, str(square)) == (16, "16", "16x16")
    assert (wide.side, wide.key, str(wide)) == ("12x16",) * 3
    with pytest.raises(ValueError, match="invalid literal"):
        Grid.parse("sixteen")


def test_grids_are_ordered_from_coarse_to_fine() -> None:
    assert sorted([Grid(16, 24), Grid(2, 3), Grid(4, 6), WHOLE]) == [
        *(WHOLE, Grid(2, 3), Grid(4, 6), Grid(16, 24))
    ]
