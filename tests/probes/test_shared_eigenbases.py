"""Eigenbases that fits share: the same probes from fewer eigenproblems."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from datasets.grid import Grid
from probes.learning import learning_curve
from probes.moments import CPU
from probes.probe_set import ACTIVATIONS, WITH_POSITION, Cell, Probes, tensors_of
from probes.shared_eigenbases import (
    Features,
    KeptEigenbases,
    Sharing,
    bytes_of_eigenbases,
    no_sharing,
    remembering,
)
from probes.solve import solve_sites

FOLDS = 5
DRAFT = tuple(range(FOLDS - 1))
SITE = ("trained", "fine")
GENEROUS = 1 << 30


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every eigenproblem that is solved from now on."""
    solved: list[int] = []
    real = torch.linalg.eigh

    def counted(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        solved.append(len(matrix))
        return real(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    return solved


def draft(world: SimpleNamespace, sharing: Sharing, threads: int = 1) -> Probes:
    return solve_sites(
        world.folds[:-1], ["saliency"], world.steps, {"trained"}, threads, sharing=sharing
    )


def final(world: SimpleNamespace, sharing: Sharing, threads: int = 1) -> Probes:
    return solve_sites(
        world.folds, list(world.tasks), world.steps, {"trained"}, threads, sharing=sharing
    )


def same(actual: Probes, expected: Probes) -> bool:
    one, other = tensors_of(actual), tensors_of(expected)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("threads", [1, 4])
def test_the_draft_and_the_final_fit_share_one_eigenproblem_in_eleven(
    world: SimpleNamespace, sides: list[int], threads: int
) -> None:
    alone = draft(world, no_sharing), final(world, no_sharing)
    # Five channels, seven twice, and once five directions of the seven; position adds none.
    assert sorted(sides) == sorted([5, 7, 7, 5] * len(world.steps) * (FOLDS + FOLDS + 1))
    sides.clear()
    kept = KeptEigenbases(DRAFT, GENEROUS)
    shared = draft(world, kept.keep, threads), final(world, kept.take, threads)
    assert sorted(sides) == sorted([5, 7, 7, 5] * len(world.steps) * (FOLDS + FOLDS))
    assert all(same(*pair) for pair in zip(shared, alone, strict=True))
    assert kept.nbytes == 0


def test_eigenbases_beyond_the_limit_are_computed_again(
    world: SimpleNamespace, sides: list[int]
) -> None:
    kept = KeptEigenbases(DRAFT, 3 * 8 * 5 * 6)
    draft(world, kept.keep)
    assert 0 < kept.nbytes <= kept.limit
    sides.clear()
    probes = final(world, kept.take)
    assert len(sides) == 4 * len(world.steps) * (FOLDS + 1) - 3
    assert same(probes, final(world, no_sharing))


def test_the_memory_that_is_kept_is_predicted(world: SimpleNamespace) -> None:
    kept = KeptEigenbases(DRAFT, GENEROUS)
    draft(world, kept.keep)
    draft(world, kept.keep)
    assert kept.nbytes == bytes_of_eigenbases(world.folds[0], len(world.steps), {"trained"})


def test_only_the_same_features_and_folds_share(sides: list[int]) -> None:
    kept = KeptEigenbases((0, 1), GENEROUS)
    features = Features(SITE, 0, False, 2)
    first, second = torch.diag(torch.tensor([1.0, 2.0])), torch.diag(torch.tensor([3.0, 4.0]))
    kept.keep(features)((0, 1), first.double())
    kept.keep(features)((0, 2), second.double())
    for other in (
        features._replace(site=("random-1", "fine")),
        features._replace(step_index=1),
        features._replace(of_images=True),
        features._replace(width=3),
    ):
        assert kept.take(other)((0, 1), second.double()).spectrum.tolist() == [3.0, 4.0]
    assert kept.take(features)((0, 2), second.double()).spectrum.tolist() == [3.0, 4.0]
    sides.clear()
    assert kept.take(features)((0, 1), second.double()).spectrum.tolist() == [1.0, 2.0]
    assert not sides
    assert kept.take(features)((0, 1), second.double()).spectrum.tolist() == [3.0, 4.0]


def test_eigenbases_of_a_card_are_kept_in_host_memory(card: SimpleNamespace) -> None:
    kept = KeptEigenbases(DRAFT, GENEROUS)
    features = Features(SITE, 0, False, 2)
    scatter = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))
    kept.keep(features)(DRAFT, scatter.to(card.device))
    held = kept._kept[features]
    assert held.basis.device == held.spectrum.device == CPU
    assert kept.take(features)(DRAFT, scatter.to(card.device)).basis.device == card.device


def test_curves_of_the_same_features_share(world: SimpleNamespace, sides: list[int]) -> None:
    cells = [
        Cell(*SITE, world.steps[1], probe, 0, Grid(8, 8)) for probe in (ACTIVATIONS, WITH_POSITION)
    ]
    alone = [learning_curve(world.folds, "depth", cell, 1) for cell in cells]
    assert len([side for side in sides if side]) == 2 * FOLDS * (FOLDS - 1)
    sides.clear()
    decomposing = remembering()
    shared = [learning_curve(world.folds, "depth", cell, 1, decomposing) for cell in cells]
    assert len([side for side in sides if side]) == FOLDS * (FOLDS - 1)
    assert shared == alone
