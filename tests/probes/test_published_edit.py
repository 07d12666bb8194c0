"""The published edit equals PyTorch's Adam on the loss per pixel of the published probe."""

from __future__ import annotations

import pytest
import torch

from datasets.grid import Grid
from probes.adam import pixel_loss, reading
from probes.edit import ITERATIONS, LEARNING_RATE
from probes.published_edit import RANGE, PublishedProbe, published_change, published_target

N, SIDE, SIZE, C = 3, 4, 12, 6
GRID = Grid(SIDE, SIDE)


def case(is_mask: bool) -> tuple[torch.Tensor, PublishedProbe, torch.Tensor]:
    """Activations, a probe with one weight of zero, and a map whose blocks are not constant."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(N, SIDE**2, C, generator=draw, dtype=torch.float64)
    weights = torch.randn(C, 2 if is_mask else 1, generator=draw, dtype=torch.float64)
    weights[2] = 0.3 if is_mask else 0.0
    target = torch.randn(N, 1, SIZE, SIZE, generator=draw, dtype=torch.float64)
    return x, PublishedProbe(weights), (target > 0.5).double() if is_mask else target


def rescaled(target: torch.Tensor) -> torch.Tensor:
    return torch.stack(
        [RANGE * (2 * (one - one.min()) / (one.max() - one.min()) - 1) for one in target]
    )


@pytest.mark.parametrize("is_mask", [True, False])
def test_the_edit_is_pytorchs_adam_on_the_loss_over_pixels(is_mask: bool) -> None:
    x, probe, target = case(is_mask)
    blocks = published_target(target, GRID, is_mask).double()
    change = published_change(x, probe, blocks)
    goal = target if is_mask else rescaled(target)
    for row in range(N):
        edited = x[row : row + 1].clone().requires_grad_()
        optimiser = torch.optim.Adam([edited], lr=LEARNING_RATE)
        for _ in range(ITERATIONS):
            optimiser.zero_grad()
            pixel_loss(edited @ probe.weights, goal[row : row + 1, 0]).backward()
            optimiser.step()
        # The target is in single precision, as the labels are.
        torch.testing.assert_close(
            change[row : row + 1], edited.detach() - x[row : row + 1], rtol=0, atol=1e-4
        )
        assert change[row, :, 2].abs().max() == 0


def test_channels_move_by_the_signs_of_the_weights() -> None:
    x, probe, target = case(True)
    change = published_change(x, probe, published_target(target, GRID, True).double())
    amounts = change[..., [0, 1, 3, 4, 5]] * probe.direction[[0, 1, 3, 4, 5]].sign()
    assert amounts.std(-1).max() < 1e-3 * amounts.abs().max()


@pytest.mark.parametrize("is_mask", [True, False])
def test_the_residual_is_of_what_the_probe_reads(is_mask: bool) -> None:
    x, probe, target = case(is_mask)
    blocks = published_target(target, GRID, is_mask).double()
    outputs = x @ probe.weights
    if is_mask:
        expected = blocks[..., 1] - outputs.softmax(-1)[..., 1]
        assert ((x @ probe.direction > 0) == (reading(outputs)[:, 0] > 0)).all()
    else:
        expected = blocks.mean(-1) - outputs[..., 0]
    torch.testing.assert_close(probe.residual(x, blocks)[..., 0], expected)


def test_maps_are_rescaled_image_by_image_and_a_constant_one_becomes_zero() -> None:
    target = torch.stack([torch.arange(16.0).view(1, 4, 4), torch.full((1, 4, 4), 3.0)])
    blocks = published_target(target, Grid(2, 2), False)
    assert (blocks[0].min(), blocks[0].max()) == (-RANGE, RANGE)
    assert blocks[1].abs().max() == 0
