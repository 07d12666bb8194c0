"""Onsets by noise level, and the order of attributes and groups of them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.across.models import models_of
from bench.across.order import (
    attribute_order,
    crossing,
    first_level,
    group_order,
    onset_of,
    onsets,
)
from bench.across.shared import Shared, shared
from probes.probe_set import PERMUTED, Cell
from tests.bench.across.synthetic import LEVELS, run_of
from tests.synthetic_run import Quality

TASKS = ("saliency", "depth", "colour", "light")


def growing(**at: float) -> Quality:
    """Tasks whose gain rises by a straight line from log-SNR -7 to the named one, then stays."""

    def of(task: str, cell: Cell) -> float:
        if cell.network != "trained" or cell.probe == PERMUTED:
            return 0.3
        if task not in at:
            return 0.3
        return 0.3 + 0.5 * min(1.0, (LEVELS[cell.step] + 7) / (at[task] + 7))

    return of


def shared_run(quality: Quality, levels: tuple[float, ...] = LEVELS) -> Shared:
    runs = [run_of(name, quality, levels, TASKS) for name in ("tiny", "dit_noise_0")]
    return shared(models_of(runs))


def slow_crossing(shares: list[float], levels: list[float]) -> float:
    """The same, from the end."""
    found = levels[-1]
    for index in range(len(shares) - 1, -1, -1):
        if shares[index] < 0.9:
            return found
        found = levels[index]
        if index and shares[index - 1] < 0.9 and np.isfinite(levels[index - 1]):
            grid = np.linspace(levels[index - 1], levels[index], 100_001)
            line = np.interp(grid, levels[index - 1 : index + 1], shares[index - 1 : index + 1])
            found = float(grid[line >= 0.9][0])
    return found if np.isfinite(found) else levels[1]


def test_crossings_equal_a_search_along_the_line() -> None:
    rng = np.random.default_rng(0)
    shares = np.vstack([rng.uniform(0.6, 1.1, (5, 40)), np.ones(40)])
    for first in (-4.0, -np.inf):
        levels = np.array([first, -2.0, -1.0, 0.5, 2.0, 5.0])
        expected = [slow_crossing(list(column), list(levels)) for column in shares.T]
        assert crossing(shares, levels) == pytest.approx(expected, abs=1e-4)


def test_a_share_that_is_high_from_the_start_is_a_bound_and_an_undefined_one_nan() -> None:
    levels = np.array([-np.inf, -2.0, 1.0])
    shares = np.array([[1.0, 0.5, np.nan], [1.0, 1.0, np.nan], [1.0, 1.0, np.nan]])
    assert np.array_equal(crossing(shares, levels), [-2.0, -2.0, np.nan], equal_nan=True)


def test_the_onset_is_where_nine_tenths_of_the_final_gain_are_reached() -> None:
    common = shared_run(growing(depth=3.0))
    onset = onset_of(common, common.models[0], "depth", first_level(common))
    assert onset.log_snr is not None
    assert onset.log_snr.mean == pytest.approx(2.0, abs=0.4)
    assert onset.log_snr.low < onset.log_snr.mean < onset.log_snr.high
    assert not onset.is_bound


def test_an_attribute_without_a_final_gain_has_no_onset_and_no_order() -> None:
    found = onsets(shared_run(growing(depth=3.0, colour=3.0)))
    light = [onset for onset in found if onset.attribute == "light"]
    assert [str(onset) for onset in light] == ["no final gain"] * 2
    assert {(row.first, row.second) for row in attribute_order(found)} == {("depth", "colour")}


def test_an_order_is_found_where_there_is_one_and_not_where_there_is_none() -> None:
    rows = group_order(onsets(shared_run(growing(depth=3.0, saliency=3.0, colour=-3.0))))
    assert [row.finding for row in rows] == ["colour, texture and shape before geometry"] * 2
    for row in rows:
        assert row.difference.mean == pytest.approx(5.4, abs=0.6)
        assert row.difference.low > 0
    rows = group_order(onsets(shared_run(growing(depth=1.0, saliency=1.0, colour=1.0))))
    assert [row.finding for row in rows] == ["no order seen"] * 2


def test_a_group_with_a_bound_can_be_the_first_one_and_not_the_second() -> None:
    """Masks are there from the first step on, so that geometry may be earlier than its mean."""
    later = growing(depth=5.0, colour=-2.4)

    def of(task: str, cell: Cell) -> float:
        is_probe = cell.network == "trained" and cell.probe != PERMUTED
        return 0.8 if task == "saliency" and is_probe else later(task, cell)

    rows = group_order(onsets(shared_run(of)))
    assert {row.difference.low > 0 for row in rows} == {True}
    assert {row.finding for row in rows} == {"no order seen"}
    later = growing(depth=5.0, colour=4.0)
    rows = group_order(onsets(shared_run(of)))
    assert {row.finding for row in rows} == {"geometry before colour, texture and shape"}


def test_attributes_that_are_there_from_the_first_step_on_have_no_order() -> None:
    def constant(_: str, cell: Cell) -> float:
        return 0.8 if cell.network == "trained" and cell.probe != PERMUTED else 0.3

    found = onsets(shared_run(constant, (-np.inf, *LEVELS[1:])))
    assert all(onset.is_bound for onset in found)
    assert str(found[0]).startswith(f"at or before {LEVELS[1]:.2f}")
    assert {row.finding for row in attribute_order(found)} == {"no order seen"}


def test_onsets_before_the_first_noise_level_of_all_models_are_equal_bounds() -> None:
    """Another model's steps start at more noise, where its onset would seem to be earlier."""

    def constant(_: str, cell: Cell) -> float:
        return 0.8 if cell.network == "trained" and cell.probe != PERMUTED else 0.3

    earlier = tuple(level - 6 for level in LEVELS)
    runs = [
        run_of("tiny", constant, LEVELS, TASKS),
        run_of("dit_noise_0", constant, earlier, TASKS),
    ]
    found = onsets(shared(models_of(runs)))
    assert {onset.log_snr.mean for onset in found if onset.log_snr} == {LEVELS[0]}
    assert all(onset.is_bound for onset in found)
