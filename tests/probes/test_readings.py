"""Activations that are label maps themselves, scored pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.grid import Grid
from datasets.labels import Labels
from probes.blocks import Blocks
from probes.probe_set import ACTIVATIONS, Cell, ProbeSet, with_readings
from probes.readout import Readout
from probes.task import Task

LAYERS, STEPS = ("latent", "predicted"), (0, 3)
PIXELS = Grid(16, 16)


def tasks_of(world: SimpleNamespace) -> dict[str, Task]:
    """The tasks of maps, and one of whole images, which has no pixel-level cells."""
    depth = world.tasks["depth"]
    whole = replace(
        depth,
        target=lambda labels: depth.target(labels).mean((-1, -2), keepdim=True),
        per_image=True,
    )
    return world.tasks | {"distance": whole}


@pytest.fixture(scope="module")
def masks(world: SimpleNamespace, probe_set: ProbeSet) -> ProbeSet:
    """The probe set with a threshold per mask, and the mean of a task of whole images."""
    thresholds = {"saliency": dict.fromkeys(probe_set.probes["saliency"], 0.3)}
    distance = torch.zeros(1, 1, 1, dtype=torch.float64)
    return replace(
        probe_set,
        probes=probe_set.probes | {"distance": {}},
        mean_map=probe_set.mean_map | {"distance": distance},
        thresholds=thresholds,
    )


@pytest.fixture(scope="module")
def read(masks: ProbeSet) -> ProbeSet:
    return with_readings(masks, "decoded", LAYERS, STEPS)


def maps_of(world: SimpleNamespace, labels: Labels) -> Tensor:
    """Labels as activations: a token per pixel, the tasks' targets in the order of their names."""
    maps = [world.tasks[name].target(labels).double() for name in ("depth", "normals", "saliency")]
    return torch.cat(maps, dim=1).flatten(2).mT


def reading(world: SimpleNamespace, layer: str, step: int) -> Cell:
    return Cell("decoded", layer, step, ACTIVATIONS, 0, PIXELS)


def test_every_map_has_a_cell_per_layer_and_step_and_nothing_else_changes(
    world: SimpleNamespace, masks: ProbeSet, read: ProbeSet
) -> None:
    expected = {reading(world, layer, step) for layer in LAYERS for step in STEPS}
    for task in world.tasks:
        assert set(read.probes[task]) - set(masks.probes[task]) == expected
        for cell, probe in masks.probes[task].items():
            assert read.probes[task][cell] is probe
        assert all(np.isnan(read.probes[task][cell].cv_loss) for cell in expected)
    assert read.probes["distance"] == {}
    assert not {cell.network for cell in masks.probes["depth"]} & {"decoded"}
    assert set(read.thresholds["saliency"]) == set(masks.thresholds["saliency"]) | expected
    assert set(read.thresholds) == {"saliency"}


def test_readings_are_scored_as_maps_against_the_labels_pixel_by_pixel(
    world: SimpleNamespace, read: ProbeSet, pixels: SimpleNamespace
) -> None:
    """The labels of another block stand for those of unfinished images."""
    block, unfinished = world.draw(50, noise=1.0, images=3), world.draw(51, noise=1.0, images=3)
    readout = Readout(read, world.tasks)
    for step in STEPS:
        for layer, labels in zip(LAYERS, (unfinished.labels, block.labels), strict=True):
            readout.update(step, "decoded", layer, maps_of(world, labels), PIXELS)
    block.feed(readout)
    scores = readout.scores()
    for name, task in world.tasks.items():
        target = block.target(name)
        blocks = Blocks(torch.from_numpy(target), PIXELS)
        cells = read.cells(name)
        for step in STEPS:
            actual = scores[name][cells.index(reading(world, "latent", step))]
            prediction = unfinished.target(name)
            flat = torch.from_numpy(prediction).flatten(2)[None]
            for column, metric in enumerate(task.metrics):
                direct = metric.compute(flat, blocks, torch.tensor([0.5], dtype=torch.float64))[0]
                torch.testing.assert_close(
                    actual[column], direct, rtol=1e-12, atol=1e-12, equal_nan=True
                )
                for n in range(len(target)):
                    channels = slice(None) if name == "normals" else 0
                    expected = pixels.metrics[metric.name](
                        prediction[n, channels], target[n, channels], 0.5
                    )
                    assert float(actual[column, n]) == pytest.approx(
                        expected, abs=1e-8, nan_ok=True
                    )


def test_the_true_label_maps_have_perfect_scores(world: SimpleNamespace, read: ProbeSet) -> None:
    block = world.draw(52, noise=1.0, images=3)
    readout = Readout(read, world.tasks)
    for step in STEPS:
        for layer in LAYERS:
            readout.update(step, "decoded", layer, maps_of(world, block.labels), PIXELS)
    block.feed(readout)
    for name, scores in readout.scores().items():
        metrics = [metric.name for metric in world.tasks[name].metrics]
        at = read.cells(name).index(reading(world, "predicted", STEPS[1]))
        for metric, values in zip(metrics, scores[at], strict=True):
            best = 0.0 if metric.startswith("rmse") else 1.0
            torch.testing.assert_close(values, torch.full_like(values, best), rtol=0, atol=1e-7)


def test_tasks_of_whole_images_are_ignored(world: SimpleNamespace, read: ProbeSet) -> None:
    tasks, block = tasks_of(world), world.draw(53, noise=1.0, images=3)
    readout = Readout(read, tasks)
    readout.update(STEPS[0], "decoded", "latent", maps_of(world, block.labels), PIXELS)
    assert {name for name, _ in readout.predictions} == set(world.tasks)


def test_a_probe_set_without_thresholds_gets_none(
    world: SimpleNamespace, probe_set: ProbeSet
) -> None:
    assert with_readings(probe_set, "decoded", LAYERS, STEPS).thresholds == {}
    assert "decoded" not in {
        cell.network for name in world.tasks for cell in probe_set.probes[name]
    }
