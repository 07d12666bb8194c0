"""Statistics on a GPU equal those on the CPU, bit by bit on a stand-in, and stay there."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace

import pytest
import torch

from probes.accumulate import Accumulator, _has_room
from probes.moments import CPU, moments_of
from probes.probe_set import ProbeSet, united
from probes.readout import Readout
from probes.ridge import fit
from probes.solve import mean_maps, solve_position, solve_sites
from probes.statistics import SufficientStatistics
from probes.task import Task


def on_cpu(*tensors: torch.Tensor) -> bool:
    return all(type(tensor) is torch.Tensor and tensor.device == CPU for tensor in tensors)


def test_the_stand_in_computes_and_refuses_to_mix_devices(card: SimpleNamespace) -> None:
    rows = torch.arange(6.0).view(2, 3)
    there = rows.to(card.device)
    assert there.device == card.device
    assert torch.equal((there.double() @ there.double().mT).cpu(), rows.double() @ rows.double().mT)
    assert torch.equal(there[:, torch.tensor([2, 0])].cpu(), rows[:, [2, 0]])
    assert card.operations
    with pytest.raises(card.Mixed):
        there + rows
    with pytest.raises(card.Mixed):
        torch.cat([there, rows])
    with pytest.raises(card.Mixed):
        there @ torch.ones(3)
    with pytest.raises(card.Mixed):
        rows[:, torch.tensor([2, 0]).to(card.device)]
    with pytest.raises(card.Mixed):
        there[torch.tensor([0])] = torch.ones(3)


def test_a_fit_stays_where_its_moments_are(card: SimpleNamespace) -> None:
    folds = [
        moments_of(torch.randn(40, 9, generator=torch.Generator().manual_seed(seed)))
        for seed in range(3)
    ]
    features, targets = torch.arange(6), torch.arange(6, 9)
    for groups in (None, torch.tensor([0, 1, 0])):
        expected = fit(folds, features, targets, groups=groups)
        there = fit(
            [moments.to(card.device) for moments in folds], features, targets, groups=groups
        )
        assert there.weights.device == card.device
        actual = there.cpu()
        for name in ("weights", "intercept", "penalty_index", "cv_loss"):
            assert torch.equal(getattr(actual, name), getattr(expected, name)), name


def accumulated(
    world: SimpleNamespace, tasks: dict[str, Task], device: torch.device
) -> SufficientStatistics:
    block = world.blocks[0]
    accumulator = Accumulator(tasks, block.permutations, device)
    block.feed(accumulator)
    return accumulator.sums()


def test_sums_are_the_same_and_stay(world: SimpleNamespace, card: SimpleNamespace) -> None:
    expected = accumulated(world, world.tasks, CPU).tensors()
    assert not card.operations
    there = accumulated(world, world.tasks, card.device)
    assert card.operations
    assert {value.device for value in there.target.values()} == {card.device}
    assert {moments.scatter.device for moments in there.moments.values()} == {card.device}
    actual = there.cpu().tensors()
    assert on_cpu(*actual.values())
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_where_the_card_is_full_activations_wait_on_the_cpu(
    world: SimpleNamespace, card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = accumulated(world, world.tasks, CPU).tensors()
    block, left = world.blocks[0], cycle([True, False])
    there = {site: [x.to(card.device) for x in steps] for site, steps in block.activations.items()}
    monkeypatch.setattr("probes.accumulate._has_room", lambda _: next(left))
    before = card.bytes_to_host
    accumulator = Accumulator(world.tasks, block.permutations, card.device)
    replace(block, activations=there).feed(accumulator)
    every = sum(x.nbytes for steps in there.values() for x in steps)
    assert 0 < card.bytes_to_host - before < every
    actual = accumulator.sums().cpu().tensors()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_a_card_has_room_while_a_quarter_is_free_or_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 44)
    assert _has_room(cuda)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 45)
    assert not _has_room(cuda)
    assert _has_room(CPU)


def solved(world: SimpleNamespace, device: torch.device, threads: int) -> ProbeSet:
    tasks = list(world.tasks)
    sites = solve_sites(world.folds, tasks, world.steps, {"trained"}, threads, device=device)
    position = solve_position(world.folds, tasks, {"trained"}, device)
    return ProbeSet(united([sites, position], tasks), mean_maps(world.folds, tasks))


def same_probes(actual: ProbeSet, expected: ProbeSet) -> bool:
    pairs = [
        (one, expected.probes[task][cell])
        for task, cells in actual.probes.items()
        for cell, one in cells.items()
    ]
    assert pairs
    assert on_cpu(*(one.weights for one, _ in pairs))
    return all(
        torch.equal(one.weights, other.weights)
        and torch.equal(one.intercept, other.intercept)
        and (one.penalty, one.at_edge, one.cv_loss) == (other.penalty, other.at_edge, other.cv_loss)
        for one, other in pairs
    )


def test_probes_are_the_same_and_on_the_cpu(
    world: SimpleNamespace, probe_set: ProbeSet, card: SimpleNamespace
) -> None:
    # No thread is started on a GPU; the stand-in is not active in other threads.
    actual = solved(world, card.device, threads=4)
    assert card.operations
    assert actual.probes.keys() == probe_set.probes.keys()
    assert same_probes(actual, probe_set)


def test_scores_are_the_same(
    world: SimpleNamespace, probe_set: ProbeSet, card: SimpleNamespace
) -> None:
    tables = []
    for device in (CPU, card.device):
        before = card.operations
        readout = Readout(probe_set, world.tasks, device)
        world.blocks[1].feed(readout)
        assert (card.operations > before) is (device == card.device)
        scores = readout.scores()
        assert {table.device for table in scores.values()} == {device}
        tables.append({name: table.cpu() for name, table in scores.items()})
    assert all(
        torch.equal(tables[0][name].nan_to_num(7), tables[1][name].nan_to_num(7))
        for name in world.tasks
    )


@pytest.mark.gpu
def test_a_real_card_agrees(world: SimpleNamespace, probe_set: ProbeSet) -> None:
    cuda = torch.device("cuda")
    expected, actual = (
        accumulated(world, world.tasks, CPU).tensors(),
        accumulated(world, world.tasks, cuda).cpu().tensors(),
    )
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-10, atol=1e-8)
    tables = []
    for probes, device in ((probe_set, CPU), (solved(world, cuda, threads=2), cuda)):
        readout = Readout(probes, world.tasks, device)
        world.blocks[1].feed(readout)
        tables.append({name: table.cpu() for name, table in readout.scores().items()})
    for name in world.tasks:
        torch.testing.assert_close(
            tables[0][name], tables[1][name], rtol=1e-6, atol=1e-6, equal_nan=True
        )
