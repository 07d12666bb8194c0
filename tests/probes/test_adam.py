"""The published training: its loss in blocks equals that over pixels, and it finds the truth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datasets.grid import Grid
from probes.adam import (
    BATCH,
    block_loss,
    new_probe,
    pixel_loss,
    reading,
    target_blocks,
    train,
    update,
)
from probes.adam import optimizer as adam_of

IMAGES, SIDE, SIZE, CHANNELS = 10, 4, 12, 3
GRID = Grid(SIDE, SIDE)


def drawn(is_mask: bool, outputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and a target whose blocks are not constant."""
    generator = torch.Generator().manual_seed(seed)
    prediction = 3 * torch.randn(IMAGES, SIDE**2, outputs, generator=generator, dtype=torch.float64)
    target = 2 * torch.randn(IMAGES, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return prediction, (target > 0.5).double() if is_mask else target


@pytest.mark.parametrize("is_mask", [True, False])
def test_the_loss_in_blocks_and_its_gradient_are_those_over_pixels(is_mask: bool) -> None:
    prediction, target = drawn(is_mask, 2 if is_mask else 1)
    actual = []
    for loss_of in (
        lambda p: pixel_loss(p, target),
        lambda p: block_loss(p, target_blocks(target, GRID, is_mask)),
    ):
        leaf = prediction.clone().requires_grad_()
        loss = loss_of(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
        actual.append((loss, gradient))
    (pixels, by_pixels), (blocks, by_blocks) = actual
    torch.testing.assert_close(pixels, blocks)
    torch.testing.assert_close(by_pixels, by_blocks)


def test_a_huber_loss_of_block_means_differs() -> None:
    prediction, target = drawn(False, 1)
    tiles = target_blocks(target, GRID, False)
    means = tiles.mean(-1, keepdim=True)
    assert abs(float(pixel_loss(prediction, target) - block_loss(prediction, means))) > 0.1


@pytest.mark.parametrize("is_mask", [True, False])
def test_training_in_blocks_takes_the_path_of_training_over_pixels(is_mask: bool) -> None:
    activations = torch.randn(IMAGES, SIDE**2, CHANNELS, generator=torch.Generator().manual_seed(1))
    target = drawn(is_mask, 1)[1].float()
    fitted = train(activations, target_blocks(target, GRID, is_mask), is_mask, epochs=3, seed=5)
    probe = new_probe(CHANNELS, is_mask, seed=5)
    adam = adam_of(probe)
    generator = torch.Generator().manual_seed(5)
    for epoch in range(3):
        losses = []
        for batch in torch.randperm(IMAGES, generator=generator).split(BATCH):
            losses.append(update(adam, pixel_loss(probe(activations[batch]), target[batch])))
        torch.testing.assert_close(
            fitted.weights[epoch], probe.weight.detach().mT, atol=1e-5, rtol=1e-4
        )
        assert float(fitted.train_loss[epoch]) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert probe.bias is None


def test_a_linear_target_is_fitted() -> None:
    generator = torch.Generator().manual_seed(2)
    activations = torch.randn(40, SIDE**2, CHANNELS, generator=generator)
    truth = torch.tensor([0.3, -0.2, 0.1])
    coarse = (activations @ truth).unflatten(-1, (SIDE, SIDE))
    target = coarse.repeat_interleave(3, -1).repeat_interleave(3, -2)
    fitted = train(activations, target_blocks(target, GRID, False), False, epochs=200)
    torch.testing.assert_close(fitted.weights[-1, :, 0], truth, atol=1e-3, rtol=0)
    mask = (target > 0).float()
    actual = train(activations, target_blocks(mask, GRID, True), True, epochs=30)
    larger = actual.predict(activations)[-1].argmax(-1)
    separates = (activations @ truth > 0).long()
    assert float((larger == separates).double().mean()) > 0.85
    assert ((reading(actual.predict(activations))[-1, :, 0] > 0) == larger.bool()).all()


def test_outputs_of_every_epoch_are_those_of_its_weights() -> None:
    epochs = train(torch.randn(6, SIDE**2, CHANNELS), torch.randn(6, SIDE**2, 9), False, epochs=2)
    activations = torch.randn(2, SIDE**2, CHANNELS)
    for epoch, outputs in enumerate(epochs.predict(activations)):
        torch.testing.assert_close(outputs, activations @ epochs.weights[epoch])


def test_a_seed_gives_the_same_probe_and_does_not_change_the_global_generator() -> None:
    activations, blocks = torch.ones(5, SIDE**2, CHANNELS), torch.ones(5, SIDE**2, 9)
    state = torch.random.get_rng_state()
    first, again, other = (
        train(activations, blocks, False, epochs=1, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first.weights, again.weights)
    assert not torch.equal(first.weights, other.weights)
    assert torch.equal(state, torch.random.get_rng_state())
