"""Readings of a few test images: what is stored, and that it is bounded and exact at 8 bits."""

from __future__ import annotations

import pytest
import torch

from bench.runs.readings import (
    KINDS,
    LONGEST,
    MOST_BYTES,
    SHOWN_ITEMS,
    Extent,
    extent_of,
    levels,
    small,
    spread,
)
from bench.runs.results import Results
from datasets.grid import Grid
from probes.probe_set import ACTIVATIONS, Cell


def cells(count: int, side: int) -> list[Cell]:
    grid = Grid(side, side)
    return [Cell("trained", f"block{n}", 0, ACTIVATIONS, 0, grid) for n in range(count)]


def test_a_run_has_the_readings_of_every_layer_and_step(small_run: Results) -> None:
    for task in small_run.tasks.values():
        for kind, (network, probe, draw) in KINDS.items():
            for layer in small_run.layers:
                (cell,) = task.where(network=network, probe=probe, draw=draw, layer=layer, step=0)
                maps = small_run.strips[f"map/{task.name}/{kind}/{layer}"]
                assert maps.shape == (SHOWN_ITEMS, len(small_run.steps), 1, *cell.grid.shape)
                assert maps.dtype == "uint8"
    for step in small_run.steps:
        assert small_run.strips[f"decoded/{step}"].shape == (SHOWN_ITEMS, 3, 64, 64)
        assert small_run.strips[f"clean/{step}"].shape == (SHOWN_ITEMS, 3, 64, 64)


def test_the_best_layers_readings_are_those_of_the_strips(small_run: Results) -> None:
    for name, task in small_run.tasks.items():
        best = task.best(network="trained", step=2, probe=ACTIVATIONS)
        exact = small_run.strips[f"reading/{name}/{best.step}"][:SHOWN_ITEMS]
        label = small_run.strips[f"label/{name}"][:SHOWN_ITEMS]
        low, high = (
            end(label, axis=(1, 2, 3), keepdims=True) for end in (type(label).min, type(label).max)
        )
        shares = ((exact - low) / (high - low)).clip(0, 1)
        stored = small_run.strips[f"map/{name}/activations/{best.layer}"][:, best.step] / 255
        assert abs(stored - shares).max() <= 0.5 / 255 + 1e-6


def test_levels_span_the_label_of_each_image() -> None:
    label = torch.tensor([[0.0, 1.0], [2.0, 6.0]])[:, None, None, None]
    values = torch.tensor([[0.0, 0.5, 9.0], [2.0, 4.0, -9.0]])[:, None, None, None]
    assert levels(values, label).flatten(1).tolist() == [[0, 128, 255], [0, 128, 0]]
    constant = torch.ones(1, 1, 1, 1, 2)
    assert levels(values[:1], constant).dtype == torch.uint8


@pytest.mark.parametrize(
    ("layers", "side", "steps"), [(16, 32, 15), (64, 64, 50), (200, 128, 1000), (1, 8, 1)]
)
def test_maps_are_bounded(layers: int, side: int, steps: int) -> None:
    extent = extent_of(cells(layers, side), steps, SHOWN_ITEMS)
    tokens = layers * min(side, extent.side) ** 2
    assert tokens * extent.items * extent.steps <= MOST_BYTES
    assert extent.items >= 1
    assert extent.steps >= 1


def test_a_small_run_is_kept_whole() -> None:
    assert extent_of(cells(16, 16), 15, 4) == Extent(4, 32, 15)
    # Items are given up before tokens, and tokens before steps.
    assert extent_of(cells(100, 32), 15, 4) == Extent(2, 32, 15)
    assert extent_of(cells(1000, 32), 15, 4) == Extent(3, 8, 15)


def test_steps_are_spread_from_the_first_to_the_last() -> None:
    assert spread(range(5), 9) == (0, 1, 2, 3, 4)
    assert spread(range(100), 5) == (0, 25, 50, 74, 99)
    assert spread((3,), 1) == (3,)


def test_large_images_are_made_smaller() -> None:
    image = torch.rand(1, 3, 510, 768)
    made = small(image)
    assert max(made.shape[-2:]) <= LONGEST
    assert made.shape[-2:] == (85, 128)
    mean = image.unfold(-2, 6, 6).unfold(-2, 6, 6)[0, :, 0, 0].mean((-1, -2)) * 255
    assert (made[0, :, 0, 0] - mean).abs().max() <= 0.51
