"""The cells of a probe set, which the statistics alone determine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from datasets.grid import Grid
from probes.probe_set import (
    ACTIVATIONS,
    ALWAYS,
    CEILING,
    EQUAL_WIDTH,
    FOREGROUND,
    MEAN_MAP,
    PERMUTED,
    POSITION,
    WITH_POSITION,
    Cell,
    FittedProbe,
    ProbeSet,
    probes_of,
    tensors_of,
    united,
)
from probes.solve import mean_maps, position_sites, solve_position, solve_probe_set, solve_sites
from probes.statistics import Site, SufficientStatistics, at_sites, sums_of_tensors

SITE = ("trained", "fine")


def test_there_is_one_cell_per_probe_and_no_other(
    world: SimpleNamespace, probe_set: ProbeSet
) -> None:
    expected = set()
    for site in world.sides:
        for step in world.steps:
            expected |= {world.cell(site, step, probe) for probe in (ACTIVATIONS, WITH_POSITION)}
            if site[0] == "trained":
                expected |= {world.cell(site, step, PERMUTED, draw) for draw in range(1, 6)}
            if site == ("trained", "coarse"):
                expected.add(world.cell(site, step, EQUAL_WIDTH))
    expected |= {
        Cell(POSITION, f"{side}x{side}", ALWAYS, POSITION, 0, Grid(side, side)) for side in (4, 8)
    }
    for task in world.tasks:
        assert set(probe_set.probes[task]) == expected
        baselines = [
            Cell(CEILING, f"{side}x{side}", ALWAYS, CEILING, 0, Grid(side, side)) for side in (4, 8)
        ]
        assert probe_set.cells(task) == (
            *probe_set.probes[task],
            *baselines,
            Cell(MEAN_MAP, "16x16", ALWAYS, MEAN_MAP, 0, Grid(16, 16)),
        )


def test_a_task_of_masks_has_an_all_foreground_baseline(probe_set: ProbeSet) -> None:
    masks = replace(probe_set, thresholds={"saliency": {}})
    assert masks.cells("saliency")[-1] == Cell(FOREGROUND, "4x4", ALWAYS, FOREGROUND, 0, Grid(4, 4))
    assert masks.cells("depth") == probe_set.cells("depth")


def test_mean_map_is_the_mean_training_target(world: SimpleNamespace, probe_set: ProbeSet) -> None:
    for task in world.tasks:
        maps = np.concatenate([block.target(task) for block in world.blocks])
        np.testing.assert_allclose(probe_set.mean_map[task], maps.mean(0), rtol=1e-12, atol=1e-14)


def assert_same_probes(a: dict[Cell, FittedProbe], b: dict[Cell, FittedProbe]) -> None:
    assert list(a) == list(b)
    for key, solved in a.items():
        other = b[key]
        assert torch.equal(solved.weights, other.weights)
        assert torch.equal(solved.intercept, other.intercept)
        assert (solved.penalty, solved.at_edge, solved.cv_loss) == (
            other.penalty,
            other.at_edge,
            other.cv_loss,
        )


def test_threads_change_no_bit(world: SimpleNamespace, probe_set: ProbeSet) -> None:
    again = solve_probe_set(world.folds, list(world.tasks), world.steps, {"trained"}, threads=4)
    for task in world.tasks:
        assert_same_probes(probe_set.probes[task], again.probes[task])


def test_sites_solved_one_by_one_from_files_give_the_same_bits_in_the_same_order(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    tasks = list(world.tasks)
    for fold, sums in enumerate(world.folds):
        save_file(sums.tensors(), tmp_path / f"{fold}.safetensors")
    files = [load_file(tmp_path / f"{fold}.safetensors") for fold in range(len(world.folds))]
    # Reading a shard sorts the names of its tensors.
    files = [dict(sorted(flat.items())) for flat in files]
    probe_set = solve_probe_set(
        [sums_of_tensors(flat) for flat in files], tasks, world.steps, {"trained"}, threads=1
    )

    def read(*sites: Site) -> list[SufficientStatistics]:
        is_selected = at_sites(sites)
        return [
            sums_of_tensors({name: value for name, value in flat.items() if is_selected(name)})
            for flat in files
        ]

    bare = read()
    assert not bare[0].moments
    parts = []
    for site in bare[0].shapes:
        sums = read(site)
        assert list(sums[0].moments) == [site]
        parts.append(solve_sites(sums, tasks, world.steps, {"trained"}, threads=1))
    for site in position_sites(bare[0], {"trained"}):
        parts.append(solve_position(read(site), tasks, {"trained"}))
    actual = ProbeSet(united(parts, tasks), mean_maps(bare, tasks))
    for task in tasks:
        assert actual.cells(task) == probe_set.cells(task)
        assert_same_probes(actual.probes[task], probe_set.probes[task])
        assert torch.equal(actual.mean_map[task], probe_set.mean_map[task])


def test_probes_survive_a_file(probe_set: ProbeSet, tmp_path: Path) -> None:
    tasks = list(probe_set.probes)
    save_file(
        tensors_of(probe_set.probes) | {"made": torch.ones(3)}, tmp_path / "probes.safetensors"
    )
    actual = probes_of(load_file(tmp_path / "probes.safetensors"), tasks)
    patterns = 0
    for task in tasks:
        assert list(actual[task]) == list(probe_set.probes[task])
        assert_same_probes(actual[task], probe_set.probes[task])
        for cell, probe in probe_set.probes[task].items():
            pattern = actual[task][cell].pattern
            assert (pattern is None) == (probe.pattern is None)
            if pattern is not None and probe.pattern is not None:
                assert torch.equal(pattern, probe.pattern)
                patterns += 1
    assert patterns


def test_a_probe_set_of_one_task_is_that_task_of_the_whole_set(
    world: SimpleNamespace, probe_set: ProbeSet
) -> None:
    alone = solve_probe_set(world.folds, ["saliency"], world.steps, {"trained"}, threads=1)
    assert list(alone.probes) == ["saliency"]
    for key, solved in alone.probes["saliency"].items():
        other = probe_set.probes["saliency"][key]
        torch.testing.assert_close(solved.weights, other.weights, rtol=1e-9, atol=1e-12)
        assert solved.penalty == other.penalty
        assert solved.cv_loss == pytest.approx(other.cv_loss, rel=1e-10)


def test_the_order_of_tasks_swaps_no_probe(world: SimpleNamespace, probe_set: ProbeSet) -> None:
    reverse = dict(reversed(world.tasks.items()))
    folds = [block.sums(reverse) for block in world.blocks]
    again = solve_probe_set(folds, list(reverse), world.steps, {"trained"}, threads=1)
    for task in world.tasks:
        for key, solved in probe_set.probes[task].items():
            torch.testing.assert_close(
                solved.weights, again.probes[task][key].weights, rtol=1e-9, atol=1e-12
            )


def test_the_best_layer_has_the_least_loss_on_training_images(
    world: SimpleNamespace, probe_set: ProbeSet
) -> None:
    step = world.steps[1]
    for task in world.tasks:
        best = probe_set.best(task, "trained", step, ACTIVATIONS)
        losses = {
            layer: probe_set.probes[task][world.cell(("trained", layer), step, ACTIVATIONS)].cv_loss
            for layer in ("fine", "coarse")
        }
        assert best == world.cell(
            ("trained", min(losses, key=losses.__getitem__)), step, ACTIVATIONS
        )


def test_a_layer_whose_loss_is_nan_is_not_the_best(
    world: SimpleNamespace, probe_set: ProbeSet
) -> None:
    step, cells = world.steps[1], probe_set.probes["depth"]
    fine, coarse = (
        world.cell(("trained", layer), step, ACTIVATIONS) for layer in ("fine", "coarse")
    )
    for broken, other in ((fine, coarse), (coarse, fine)):
        worst = replace(cells[broken], cv_loss=float("nan"))
        changed = replace(probe_set, probes=probe_set.probes | {"depth": cells | {broken: worst}})
        assert changed.best("depth", "trained", step, ACTIVATIONS) == other


def test_informative_probes_exceed_those_of_permuted_labels(
    world: SimpleNamespace, probe_set: ProbeSet
) -> None:
    for task in world.tasks:
        real = probe_set.probes[task][world.cell(SITE, world.steps[0], ACTIVATIONS)].cv_loss
        for draw in range(1, 6):
            assert (
                real
                < probe_set.probes[task][world.cell(SITE, world.steps[0], PERMUTED, draw)].cv_loss
            )


def test_no_task_makes_an_empty_probe_set(world: SimpleNamespace) -> None:
    probe_set = solve_probe_set(world.folds, [], world.steps, {"trained"}, threads=1)
    assert not probe_set.probes
    assert not probe_set.mean_map


@pytest.mark.parametrize("reverse", [False, True])
def test_sums_from_files_of_any_order_give_the_same_probes(
    world: SimpleNamespace, probe_set: ProbeSet, reverse: bool
) -> None:
    folds = [
        sums_of_tensors(dict(sorted(sums.tensors().items(), reverse=reverse)))
        for sums in world.folds
    ]
    again = solve_probe_set(folds, list(world.tasks), world.steps, {"trained"}, threads=1)
    for task in world.tasks:
        assert set(again.probes[task]) == set(probe_set.probes[task])
        for key, solved in probe_set.probes[task].items():
            torch.testing.assert_close(
                solved.weights, again.probes[task][key].weights, rtol=1e-9, atol=1e-12
            )
            assert solved.penalty == again.probes[task][key].penalty
