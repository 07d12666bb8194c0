"""Ridge with further columns, from the features' eigenbasis, against exact and direct solutions."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.grid import Grid
from probes.eigenbasis import decompose, weights_of, weights_with_further
from probes.moments import Moments, moments_of
from probes.position import position_columns
from probes.ridge import PENALTIES, Fit, Further, Problem, fit, fit_all

SIDE, IMAGES, CHANNELS = 8, 8, 18
ROWS = IMAGES * SIDE**2


def draws(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng([617, *shape]).normal(size=shape))


def position() -> Tensor:
    return position_columns(Grid(SIDE, SIDE)).repeat(IMAGES, 1)


def activations() -> Tensor:
    return draws(ROWS, CHANNELS) @ draws(CHANNELS, CHANNELS)


def nearly_collinear() -> Tensor:
    half = draws(ROWS, CHANNELS // 2)
    return torch.cat([half, half + 1e-9 * draws(ROWS, CHANNELS // 2)], dim=1)


def with_constants() -> Tensor:
    return torch.cat([activations()[:, 4:], torch.full((ROWS, 4), 7.0).double()], dim=1)


def of_rank_three() -> Tensor:
    return draws(ROWS, 3) @ draws(3, CHANNELS)


def one_large_channel() -> Tensor:
    return activations() * torch.tensor([1e3] + [1.0] * (CHANNELS - 1)).double()


def that_hold_position() -> Tensor:
    return torch.cat([draws(ROWS, 4), position()], dim=1) @ draws(CHANNELS, CHANNELS)


WORST = {
    "ordinary": activations,
    "far from zero": lambda: activations() + 1e3,
    "collinear": nearly_collinear,
    "constant": with_constants,
    "all constant": lambda: torch.full((ROWS, CHANNELS), 7.0).double(),
    "rank 3": of_rank_three,
    "scales from 1e-6 to 1e6": lambda: activations() * torch.logspace(-6, 6, CHANNELS).double(),
    "one large": one_large_channel,
    "tiny": lambda: 1e-20 * activations(),
    "position among them": that_hold_position,
}


class System:
    """Moments of (features, position, targets), and the factor of position."""

    def __init__(self, x: Tensor, rows: int = ROWS) -> None:
        z = position()
        spread = x.std(0).max().clamp(min=1e-30)
        noise = draws(3, len(x)).mT
        y = torch.stack(
            [
                (x - x.mean(0))[:, 0] / spread + z[:, 0] + 0.01 * noise[:, 0],
                2 * z[:, 3] + 0.1 * noise[:, 1],
                noise[:, 2],
            ],
            dim=1,
        )
        self.rows = torch.cat([x, z, y], dim=1)[:rows]
        self.moments = moments_of(self.rows)
        c, q = x.shape[1], z.shape[1]
        self.features, self.further, self.targets = torch.arange(c + q + 3).split([c, q, 3])
        spread = self.moments.scatter.diagonal()
        ratio = spread[self.features].mean() / spread[self.further].mean()
        self.factor = float(ratio.sqrt()) or 1.0
        scale = torch.ones(len(spread)).double()
        scale[self.further] = self.factor
        self.scale = scale
        self.read = torch.cat([self.features, self.further])
        self.mean = (spread * scale**2)[self.read].mean()

    def scaled(self, moments: Moments) -> Moments:
        """The moments with the further columns multiplied by the factor."""
        scatter = moments.scatter * self.scale[:, None] * self.scale
        return Moments(moments.n, moments.mean * self.scale, scatter)


@pytest.fixture(scope="module", params=WORST.values(), ids=WORST.keys())
def system(request: pytest.FixtureRequest) -> System:
    return System(request.param())


def solved_exactly(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution of a positive definite system, by Gaussian elimination with 50 digits."""
    with localcontext() as context:
        context.prec = 50
        rows = np.array(
            [[Decimal(value) for value in row] for row in torch.cat([matrix, right], 1).tolist()]
        )
        for at in range(len(rows)):
            rows[at] = rows[at] / rows[at, at]
            below = np.arange(len(rows)) != at
            rows[below] = rows[below] - rows[below, at][:, None] * rows[at]
        return torch.from_numpy(rows[:, len(rows) :].astype(float))


def distance(actual: Tensor, expected: Tensor) -> float:
    """The largest relative error of a column."""
    return float(((actual - expected).norm(dim=0) / expected.norm(dim=0)).max())


@pytest.mark.parametrize("penalty", [PENALTIES[0], PENALTIES[6], PENALTIES[13], PENALTIES[19]])
def test_solutions_are_as_near_to_the_exact_one_as_direct_ones(
    system: System, penalty: float
) -> None:
    alphas = torch.stack([system.mean * penalty, system.mean * penalty * 2])
    c = len(system.features)
    scaled = system.scaled(system.moments).scatter
    gram, cross = scaled[system.read][:, system.read], scaled[system.read][:, system.targets]
    plain = system.moments.scatter
    actual = weights_with_further(
        decompose(gram[:c, :c]),
        plain[system.features][:, system.further],
        plain[system.further][:, system.further],
        plain[system.features][:, system.targets],
        plain[system.further][:, system.targets],
        alphas,
        alphas / system.factor**2,
    )
    actual = actual / system.scale[system.read][:, None]
    direct = weights_of(decompose(gram), cross, alphas)
    for at, alpha in enumerate(alphas):
        penalised = gram + alpha * torch.eye(len(gram)).double()
        exact = solved_exactly(penalised, cross)
        # At the least penalty of collinear features a direct solution itself is off by up to 4e-9.
        allowed = max(1e-9, 3 * distance(direct[at], exact))
        assert distance(actual[at], exact) < allowed < 3e-8
        assert distance(gram @ actual[at], gram @ exact) < 1e-9
        assert distance(gram @ actual[at], gram @ direct[at]) < 1e-9


def test_fits_are_those_of_one_matrix_with_all_columns(system: System) -> None:
    folds = [moments_of(rows) for rows in system.rows.split([128, 96, 64, 160, 64])]
    further = Further(system.further, system.factor)
    (actual,) = fit_all(folds, system.features, [Problem(system.targets, further)])
    direct = fit([system.scaled(fold) for fold in folds], system.read, system.targets)
    torch.testing.assert_close(actual.cv_loss, direct.cv_loss, rtol=1e-9, atol=1e-18)
    assert torch.equal(actual.penalty_index, direct.penalty_index)
    weights = direct.weights * system.scale[system.read][:, None]
    x = system.rows[:, system.read] - system.rows[:, system.read].mean(0)
    assert distance(x @ actual.weights, x @ weights) < 1e-9
    torch.testing.assert_close(actual.intercept, direct.intercept, rtol=1e-8, atol=1e-12)


def test_a_problem_without_further_columns_keeps_its_bits(system: System) -> None:
    folds = [moments_of(rows) for rows in system.rows.chunk(4)]
    alone = fit(folds, system.features, system.targets)
    further = Further(system.further, system.factor)
    beside, _ = fit_all(
        folds, system.features, [Problem(system.targets), Problem(system.targets[:2], further)]
    )
    for name in Fit.__slots__:
        assert torch.equal(getattr(beside, name), getattr(alone, name)), name


def test_all_problems_share_the_eigenproblems(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []
    real = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda a: sides.append(len(a)) or real(a))
    system = System(activations())
    folds = [moments_of(rows) for rows in system.rows.chunk(4)]
    further = Further(system.further, system.factor)
    problems = [Problem(system.targets), Problem(system.targets, further)]
    fit_all(folds, system.features, problems)
    assert sides == [CHANNELS] * 5


def test_fewer_rows_than_columns_are_solved() -> None:
    system = System(activations(), rows=20)
    folds = [moments_of(rows) for rows in system.rows.chunk(4)]
    further = Further(system.further, system.factor)
    (actual,) = fit_all(folds, system.features, [Problem(system.targets, further)])
    direct = fit([system.scaled(fold) for fold in folds], system.read, system.targets)
    torch.testing.assert_close(actual.cv_loss, direct.cv_loss, rtol=1e-9, atol=1e-18)
