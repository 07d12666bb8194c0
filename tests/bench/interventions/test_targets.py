"""Targets of depth are what the scene would look like after the change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.interventions.shifts import draw_offsets
from bench.interventions.targets import SCALES, TILT, aimed, horizon_of, offsets_for, uncovered
from datasets.items import Item
from datasets.labels import DisparityScale, Labels

SIDE, HORIZON, SLOPE = 64, 10.0, 0.02
SCALE = DisparityScale(0.4, 0.25)
"""Of inverse depth in 1/m: a floor of 0 on row 10 and of 1.06 on the last."""


def floor() -> torch.Tensor:
    rows = torch.arange(SIDE, dtype=torch.float64)
    return (SLOPE * (rows - HORIZON)).clamp(min=0.05)[:, None].expand(SIDE, SIDE).clone()


def scene(top: int, bottom: int, left: int, right: int) -> Labels:
    """An upright board on the floor, whose inverse depth is that of its foot."""
    inverse_depth, mask = floor(), torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    inverse_depth[mask] = SLOPE * (bottom - 1 - HORIZON)
    return Labels(((inverse_depth - SCALE.mean) / SCALE.std)[None].float(), mask[None])


def item(seed: int) -> Item:
    return Item(str(seed), "", seed, "test")


@pytest.mark.parametrize("target", ["farther", "nearer"])
def test_an_object_that_moves_along_the_floor_stays_on_it(target: str) -> None:
    before, factor = scene(24, 40, 28, 38), SCALES[target]
    after = aimed(target, before, [(0, 0)], [item(0)], SCALE)
    rows, columns = np.nonzero(after.saliency[0].numpy())
    # The foot's row scales about the horizon, and the board keeps its proportions.
    assert rows.max() == pytest.approx(HORIZON + factor * (39 - HORIZON), abs=1.5)
    assert np.ptp(rows) + 1 == pytest.approx(16 * factor, abs=1.5)
    assert np.ptp(columns) + 1 == pytest.approx(10 * factor, abs=1.5)
    inverse_depth = after.disparity[0].double() * SCALE.std + SCALE.mean
    # At its foot the board is as far away as the floor that it stands on.
    board = inverse_depth[after.saliency[0]]
    assert board.std() < 1e-6
    assert float(board[0]) == pytest.approx(SLOPE * (rows.max() - HORIZON), abs=0.03)
    # Elsewhere there is the floor.
    torch.testing.assert_close(
        inverse_depth[~after.saliency[0]], floor()[~after.saliency[0]], atol=1e-6, rtol=0
    )


def test_the_ground_is_tilted_to_a_side_that_belongs_to_the_item() -> None:
    before = scene(24, 40, 28, 38)
    pair = before.take([0, 0, 0])
    after = aimed("tilted", pair, [(0, 0)] * 3, [item(0), item(0), item(3)], SCALE)
    change = after.disparity - pair.disparity
    assert torch.allclose(change[0], change[1])
    assert torch.allclose(change[:, :, 0].abs(), torch.tensor(TILT))
    assert torch.allclose(change[:, :, 0], -change[:, :, -1])
    assert torch.equal(after.saliency, pair.saliency)
    assert {float(change[row, 0, 0].sign()) for row in range(3)} == {1.0, -1.0}


def test_the_horizon_and_what_is_behind_an_object_follow_from_the_floor() -> None:
    labels = scene(24, 40, 28, 38)
    inverse_depth = labels.disparity[0].double() * SCALE.std + SCALE.mean
    background = uncovered(inverse_depth, labels.saliency[0])
    torch.testing.assert_close(background, floor(), atol=1e-6, rtol=0)
    assert horizon_of(background) == pytest.approx(HORIZON, abs=0.1)


def test_unfiltered_shifts_may_leave_the_image() -> None:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[:10, :10] = True
    filtered = draw_offsets(mask, 1, 20)
    assert all(down > 0 and right > 0 for down, right in filtered)
    free = offsets_for("shifted", mask, item(1), 20, unfiltered=True)
    assert any(down < 0 or right < 0 for down, right in free)
    assert offsets_for("farther", mask, item(1), 5, unfiltered=False) == ((0, 0),)
    assert offsets_for("farther", ~mask & mask, item(1), 5, unfiltered=False) == ()
