"""Accumulated statistics against moments of the stacked rows, and their storage."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from datasets.grid import Grid
from probes import accumulate as accumulate_module
from probes.accumulate import DRAWS, Accumulator
from probes.moments import moments_of
from probes.position import position_columns
from probes.statistics import Columns, SufficientStatistics, Total, sums_of_tensors, total_sums
from probes.task import Task

WIDTHS = {"depth": 1, "normals": 3, "saliency": 1}


def block_means_of(maps: np.ndarray, side: int) -> np.ndarray:
    n, k, h, w = maps.shape
    return (
        maps.reshape(n, k, side, h // side, side, w // side)
        .mean((3, 5))
        .reshape(n, k, -1)
        .transpose(0, 2, 1)
    )


def stacked(blocks: list, site: tuple[str, str], at: int, side: int) -> np.ndarray:
    """Rows of activations, position, then every task's block means, true and permuted."""
    rows = []
    for block in blocks:
        n = len(block.labels.disparity)
        parts = [
            block.activations[site][at].double().numpy(),
            np.tile(position_columns(Grid(side, side)).numpy(), (n, 1, 1)),
        ]
        for task in sorted(WIDTHS):
            means = block_means_of(block.target(task), side)
            parts += [means, *(means[order] for order in block.permutations)]
        rows.append(np.concatenate(parts, axis=-1).reshape(n * side * side, -1))
    return np.concatenate(rows)


@pytest.mark.parametrize("at", [0, 1])
def test_sums_are_the_moments_of_the_stacked_rows(world: SimpleNamespace, at: int) -> None:
    everything = world.total(world.folds)
    assert everything.images == 20
    for site, side in world.sides.items():
        rows = stacked(world.blocks, site, at, side)
        actual = everything.moments[site][at]
        spread = rows.std(0)
        assert actual.n == len(rows)
        np.testing.assert_allclose(actual.mean, rows.mean(0), rtol=1e-10, atol=1e-12)
        error = np.abs(actual.scatter.numpy() / len(rows) - np.cov(rows.T, bias=True))
        assert (error < 1e-10 * np.outer(spread, spread) + 1e-14).all()


def test_controls_have_the_labels_of_the_permuted_images(
    world: SimpleNamespace,
) -> None:
    block = world.draw(9, noise=0.0, images=4)
    for image in range(4):
        block.labels.disparity[image] = image
    tasks = {"depth": world.tasks["depth"]}
    site, side = ("trained", "coarse"), 4
    for image in range(4):
        for steps in block.activations.values():
            for activation in steps:
                activation[:] = 0
                activation[image] = 1
        moments = block.sums(tasks).moments[site][0]
        columns = Columns(world.channels[site], 14, {"depth": 1}, DRAWS)
        one_hot = columns.activation_columns[0]
        for draw, order in enumerate([[0, 1, 2, 3], *block.permutations]):
            target = columns.targets([("depth", draw)])[0]
            actual = (
                moments.scatter[one_hot, target] / side**2
                + moments.mean[one_hot] * moments.mean[target] * 4
            )
            assert float(actual) == pytest.approx(order[image], abs=1e-9)


def test_columns_are_channels_position_then_tasks_by_name_then_draws() -> None:
    columns = Columns(7, 14, WIDTHS, DRAWS)
    assert columns.activation_columns.tolist() == list(range(7))
    assert columns.position_columns.tolist() == list(range(7, 21))
    assert columns.targets([("depth", 0)]).tolist() == [21]
    assert columns.targets([("depth", DRAWS)]).tolist() == [26]
    assert columns.targets([("normals", 0), ("normals", 2)]).tolist() == [27, 28, 29, 33, 34, 35]
    assert columns.targets([("saliency", 1), ("depth", 1)]).tolist() == [46, 22]


def test_targets_and_variances_inside_blocks_are_summed(world: SimpleNamespace) -> None:
    everything = world.total(world.folds)
    for task in world.tasks:
        maps = np.concatenate([block.target(task) for block in world.blocks])
        np.testing.assert_allclose(everything.target[task], maps.sum(0), rtol=1e-12, atol=1e-12)
        for side in set(world.sides.values()):
            tiles = maps.reshape(
                *maps.shape[:2], side, world.size // side, side, world.size // side
            )
            expected = tiles.var((3, 5)).mean((2, 3)).sum(0)
            np.testing.assert_allclose(
                everything.within[task, Grid(side, side)], expected, rtol=1e-10
            )


def test_the_order_of_tasks_changes_no_bit(world: SimpleNamespace) -> None:
    block = world.blocks[0]
    one = block.sums(world.tasks).tensors()
    other = block.sums(dict(reversed(world.tasks.items()))).tensors()
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def assert_same(a: SufficientStatistics, b: SufficientStatistics) -> None:
    assert a.images == b.images
    assert a.moments.keys() == b.moments.keys()
    for site, moments in a.moments.items():
        assert moments.n == b.moments[site].n
        assert torch.equal(moments.mean, b.moments[site].mean)
        upper = torch.ones(moments.columns, moments.columns).triu().bool()
        assert torch.equal(moments.scatter[..., upper], b.moments[site].scatter[..., upper])
    for field in ("target", "within"):
        values, others = getattr(a, field), getattr(b, field)
        assert values.keys() == others.keys()
        for key, value in values.items():
            assert torch.equal(value, others[key]), key


def assert_symmetric(sums: SufficientStatistics) -> None:
    """Scatter from a file is exactly symmetric; a computed one may differ by rounding."""
    for moments in sums.moments.values():
        assert torch.equal(moments.scatter, moments.scatter.mT)


def test_a_trip_through_named_tensors_in_any_order_loses_nothing(world: SimpleNamespace) -> None:
    sums = world.folds[0]
    flat = sums.tensors()
    assert_same(sums, sums_of_tensors(flat))
    for seed in range(3):
        names = np.random.default_rng(seed).permutation(sorted(flat)).tolist()
        actual = sums_of_tensors({name: flat[name] for name in names})
        assert_same(sums, actual)
        assert_symmetric(actual)


def test_a_trip_through_a_file_loses_nothing(world: SimpleNamespace, tmp_path: Path) -> None:
    sums = world.total(world.folds)
    save_file(sums.tensors(), tmp_path / "sums.safetensors")
    actual = sums_of_tensors(load_file(tmp_path / "sums.safetensors"))
    assert_same(sums, actual)
    assert_symmetric(actual)


def copy_of(sums: SufficientStatistics) -> SufficientStatistics:
    return sums_of_tensors({name: value.clone() for name, value in sums.tensors().items()})


def with_images(world: SimpleNamespace) -> dict[str, Task]:
    """The tasks of maps, and one of whole images: the mean depth."""
    depth = world.tasks["depth"]
    whole = replace(
        depth,
        target=lambda labels: depth.target(labels).double().mean((-1, -2), keepdim=True),
        per_image=True,
    )
    return world.tasks | {"distance": whole}


def image_rows(block: object, site: tuple[str, str], at: int) -> np.ndarray:
    """Every image's mean activation, then its mean depth, true and permuted."""
    distance = block.target("depth").mean((2, 3))
    permuted = [distance[order] for order in block.permutations]
    return np.concatenate(
        [block.activations[site][at].double().numpy().mean(1), distance, *permuted], axis=1
    )


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_total_is_the_moments_of_all_rows(world: SimpleNamespace, parts: int) -> None:
    tasks, blocks = with_images(world), world.blocks[:parts]
    adding = Total()
    for block in blocks:
        adding.add(block.sums(tasks))
    images = sum(len(block.labels.disparity) for block in blocks)
    assert adding.sums.images == images
    assert adding.sums.moments.keys() == adding.sums.pooled.keys() == world.sides.keys()
    for site, side in world.sides.items():
        for at in range(len(world.steps)):
            rows = stacked(blocks, site, at, side)
            actual = adding.sums.moments[site][at]
            assert actual.n == len(rows)
            np.testing.assert_allclose(actual.mean, rows.mean(0), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(
                actual.scatter / len(rows), np.cov(rows.T, bias=True), rtol=1e-8, atol=1e-10
            )
            whole = np.concatenate([image_rows(block, site, at) for block in blocks])
            pooled = adding.sums.pooled[site][at]
            assert pooled.n == images
            np.testing.assert_allclose(pooled.mean, whole.mean(0), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(
                pooled.scatter / images, np.cov(whole.T, bias=True), rtol=1e-8, atol=1e-10
            )
    for task in ("depth", "normals", "saliency"):
        expected = np.concatenate([block.target(task) for block in blocks]).sum(0)
        np.testing.assert_allclose(adding.sums.target[task], expected, rtol=1e-12, atol=1e-12)


def test_a_total_in_memory_of_its_own_alters_no_part(world: SimpleNamespace) -> None:
    tasks = with_images(world)
    parts = [block.sums(tasks) for block in world.blocks]
    before = [copy_of(part).tensors() for part in parts]
    first, again = total_sums(parts), total_sums(iter(parts))
    for part, kept in zip(parts, before, strict=True):
        assert part.tensors().keys() == kept.keys()
        for name, value in part.tensors().items():
            assert torch.equal(value, kept[name]), name
    assert_same(first, again)
    in_place = Total()
    for part in parts:
        in_place.add(copy_of(part))
    assert_same(first, in_place.sums)
    # Changing the total does not change its parts.
    for value in (*first.moments.values(), *first.pooled.values()):
        value.scatter.zero_()
        value.mean.zero_()
    assert_same(total_sums(parts), again)


def test_a_total_of_one_part_is_that_part(world: SimpleNamespace) -> None:
    assert_same(total_sums(world.folds[:1]), world.folds[0])


def test_a_total_of_nothing_is_refused() -> None:
    with pytest.raises(RuntimeError, match="nothing was added"):
        assert Total().sums


def test_steps_taken_one_at_a_time_give_the_same_moments(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = world.folds[1]
    monkeypatch.setattr(accumulate_module, "_ENTRIES_AT_ONCE", 1)
    apart = world.blocks[1].sums(world.tasks)
    for site, moments in together.moments.items():
        torch.testing.assert_close(apart.moments[site].mean, moments.mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            apart.moments[site].scatter, moments.scatter, rtol=1e-10, atol=1e-8
        )


def test_activations_are_released(world: SimpleNamespace) -> None:
    accumulator = Accumulator(world.tasks, world.blocks[0].permutations)
    world.blocks[0].feed(accumulator)
    assert not accumulator._activations


def test_half_precision_activations_are_summed_in_float64(world: SimpleNamespace) -> None:
    block = world.draw(3, noise=1.0, images=4)
    site = ("trained", "coarse")
    halved = [activation.half() for activation in block.activations[site]]
    block.activations[site][:] = halved
    actual = block.sums({"depth": world.tasks["depth"]}).moments[site][1]
    expected = moments_of(halved[1].double().flatten(0, 1))
    torch.testing.assert_close(actual.scatter[:7, :7], expected.scatter, rtol=1e-12, atol=1e-10)


def test_an_unfinished_block_has_no_sums(world: SimpleNamespace) -> None:
    accumulator = Accumulator(world.tasks, world.blocks[0].permutations)
    with pytest.raises(RuntimeError, match="not finished"):
        accumulator.sums()
