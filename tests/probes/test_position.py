"""Position features: span, scale and order."""

import numpy as np
import pytest

from datasets.grid import Grid
from probes.position import position_columns


def centres(side: int) -> np.ndarray:
    return (np.arange(side) + 0.5) / side * 2 - 1


@pytest.mark.parametrize("side", [4, 8, 16])
def test_there_are_fourteen_columns_one_row_per_token(side: int) -> None:
    assert position_columns(Grid(side, side)).shape == (side * side, 14)


def test_columns_are_nearly_orthogonal_and_nearly_centred() -> None:
    columns = position_columns(Grid(16, 16)).numpy()
    unit = columns / np.linalg.norm(columns, axis=0)
    assert np.abs(unit.T @ unit - np.eye(14)).max() < 0.06
    assert np.abs(unit.sum(0) / 16).max() < 0.03
    assert np.linalg.cond(unit) < 1.1


@pytest.mark.parametrize("side", [8, 16])
def test_polynomials_up_to_degree_four_are_in_their_span_and_no_others(side: int) -> None:
    y, x = (axis.ravel() for axis in np.meshgrid(centres(side), centres(side), indexing="ij"))
    design = np.concatenate(
        [position_columns(Grid(side, side)).numpy(), np.ones((side * side, 1))], axis=1
    )
    for a in range(6):
        for b in range(6 - a):
            polynomial = y**a * x**b
            residual = polynomial - design @ np.linalg.lstsq(design, polynomial)[0]
            assert (np.abs(residual).max() < 1e-12) == (a + b <= 4)


def test_rows_come_before_columns() -> None:
    columns = position_columns(Grid(4, 4)).numpy()
    y, x = (axis.ravel() for axis in np.meshgrid(centres(4), centres(4), indexing="ij"))
    assert any(np.allclose(column, y) for column in columns.T)
    assert any(np.allclose(column, x) for column in columns.T)
