"""Ridge regression from moments against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from datasets.grid import Grid
from probes import ridge
from probes.blocks import block_means
from probes.moments import moments_of, total
from probes.ridge import PENALTIES, fit, loss, solve

CASES = {"tall": (600, 12), "wide": (90, 120), "narrow": (300, 1)}


class Data:
    """Rows in unequal folds, with targets from nearly exact to pure noise."""

    def __init__(self, n: int, c: int, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, n, c])
        scale = 10.0 ** rng.uniform(-1, 1, c)
        self.x = (
            rng.normal(size=(n, c)) @ (np.eye(c) + 0.5 * rng.normal(size=(c, c))) + 10
        ) * scale
        signal = (self.x - self.x.mean(0)) / scale @ rng.normal(size=(c, 4)) / c**0.5
        self.y = 3 + signal * [1, 1, 0.3, 0] + rng.normal(size=(n, 4)) * [1e-6, 0.5, 2, 1]
        self.fold = np.sort(rng.choice(5, n, p=[0.4, 0.2, 0.2, 0.1, 0.1]))
        rows = torch.from_numpy(np.concatenate([self.y, self.x], axis=1))
        self.moments = [moments_of(rows[self.fold == k]) for k in range(5)]
        self.targets, self.features = torch.arange(4), torch.arange(4, 4 + c)
        centred = self.x - self.x.mean(0)
        self.alphas = np.array(PENALTIES) * (centred**2).sum(0).mean()


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def data(request: pytest.FixtureRequest) -> Data:
    return Data(*request.param)


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


def test_there_are_twenty_penalties_from_1e_minus_6_to_100() -> None:
    assert len(PENALTIES) == 20
    np.testing.assert_allclose(PENALTIES, np.logspace(-6, 2, 20), rtol=1e-12)


def test_solutions_equal_ridge_for_every_penalty(data: Data) -> None:
    alphas = torch.from_numpy(data.alphas)
    weights, intercept = solve(total(data.moments), data.features, data.targets, alphas)
    worst = 0.0
    for at, alpha in enumerate(data.alphas):
        direct = Ridge(alpha=alpha, solver="svd").fit(data.x, data.y)
        worst = max(
            worst,
            relative(weights[at].mT, direct.coef_),
            relative(intercept[at], direct.intercept_),
        )
    print(f"largest relative difference from Ridge: {worst:.1e}")
    assert worst < 1e-6


def test_penalty_and_loss_equal_grid_search(data: Data) -> None:
    actual = fit(data.moments, data.features, data.targets)
    for k in range(4):
        search = GridSearchCV(
            Ridge(solver="svd"),
            {"alpha": data.alphas},
            cv=PredefinedSplit(data.fold),
            scoring="neg_mean_squared_error",
        ).fit(data.x, data.y[:, k])
        assert int(actual.penalty_index[k]) == search.best_index_
        digits = 1e-14 * float(np.var(data.y[:, k]))
        np.testing.assert_allclose(
            actual.cv_loss[:, k], -search.cv_results_["mean_test_score"], rtol=1e-6, atol=digits
        )
        assert float(actual.chosen_loss[k]) == pytest.approx(
            -search.best_score_, rel=1e-6, abs=digits
        )
        assert relative(actual.weights[:, k], search.best_estimator_.coef_) < 1e-6
        assert float(actual.intercept[k]) == pytest.approx(
            search.best_estimator_.intercept_, rel=1e-6
        )


def test_targets_choose_their_own_penalty_and_edges_are_flagged() -> None:
    data = Data(*CASES["tall"])
    actual = fit(data.moments, data.features, data.targets)
    exact, clear, _, noise = actual.penalty_index.tolist()
    assert exact == 0
    assert 0 < clear < 19
    assert noise == 19
    assert actual.at_edge[[0, 1, 3]].tolist() == [True, False, True]


def test_columns_are_taken_by_index() -> None:
    data = Data(*CASES["tall"])
    some = torch.tensor([9, 4, 7])
    actual = fit(data.moments, some, data.targets[[2]])
    alpha = (
        PENALTIES[int(actual.penalty_index)]
        * ((data.x - data.x.mean(0)) ** 2).sum(0)[some - 4].mean()
    )
    direct = Ridge(alpha=alpha, solver="svd").fit(data.x[:, some - 4], data.y[:, 2])
    assert relative(actual.weights[:, 0], direct.coef_) < 1e-6


def test_loss_from_moments_is_the_mean_squared_error_of_those_rows(data: Data) -> None:
    rng = np.random.default_rng(5)
    weights, intercept = rng.normal(size=(3, data.x.shape[1], 4)), rng.normal(size=(3, 4))
    actual = loss(
        data.moments[1],
        data.features,
        data.targets,
        torch.from_numpy(weights),
        torch.from_numpy(intercept),
    )
    rows = data.fold == 1
    for p in range(3):
        error = data.y[rows] - data.x[rows] @ weights[p] - intercept[p]
        np.testing.assert_allclose(actual[p], (error**2).mean(0), rtol=1e-10)


def test_constant_and_duplicated_channels_are_handled() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200, 4))
    x = np.concatenate([x, x[:, :2], np.full((200, 1), 7.0)], axis=1)
    y = x[:, :1] + 0.1 * rng.normal(size=(200, 1))
    rows = torch.from_numpy(np.concatenate([x, y], axis=1))
    actual = fit([moments_of(part) for part in rows.chunk(4)], torch.arange(7), torch.tensor([7]))
    alpha = PENALTIES[int(actual.penalty_index)] * ((x - x.mean(0)) ** 2).sum(0).mean()
    assert (
        relative(actual.weights[:, 0], Ridge(alpha=alpha, solver="svd").fit(x, y[:, 0]).coef_)
        < 1e-6
    )


@pytest.mark.parametrize("worst", [0, 11, 19])
def test_a_loss_of_nan_counts_as_the_worst(worst: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(*CASES["tall"])
    expected = fit(data.moments, data.features, data.targets)

    def with_nan(*arguments: object) -> torch.Tensor:
        losses = loss(*arguments)
        losses[worst] = torch.nan
        return losses

    monkeypatch.setattr(ridge, "loss", with_nan)
    actual = fit(data.moments, data.features, data.targets)
    for k, losses in enumerate(expected.cv_loss.mT):
        best = min((at for at in range(20) if at != worst), key=lambda at: float(losses[at]))
        assert int(actual.penalty_index[k]) == best
    assert not actual.chosen_loss.isnan().any()


def test_a_loss_of_nan_stays_in_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(*CASES["tall"])
    groups = torch.tensor([0, 0, 1, 1])
    expected = fit(data.moments, data.features, data.targets, groups=groups)
    best = int(expected.penalty_index[0])

    def with_nan(*arguments: object) -> torch.Tensor:
        losses = loss(*arguments)
        losses[best, 1] = torch.nan
        return losses

    monkeypatch.setattr(ridge, "loss", with_nan)
    actual = fit(data.moments, data.features, data.targets, groups=groups)
    means = expected.cv_loss[:, :2].mean(1)
    means[best] = torch.inf
    assert actual.penalty_index[:2].tolist() == [int(means.argmin())] * 2
    assert torch.equal(actual.penalty_index[2:], expected.penalty_index[2:])


def test_one_fold_is_refused() -> None:
    data = Data(*CASES["tall"])
    with pytest.raises(ValueError, match="at least 2 folds"):
        fit(data.moments[:1], data.features, data.targets)


@pytest.mark.parametrize("penalty", [1e-6, 1e-2, 1.0])
def test_fit_on_block_means_is_the_fit_on_upsampled_pixels(penalty: float) -> None:
    rng = np.random.default_rng(7)
    n, side, size, c = 6, 4, 12, 5
    tokens = rng.normal(size=(n, side * side, c)) + 10
    grid = tokens.reshape(n, side, side, c).repeat(size // side, 1).repeat(size // side, 2)
    pixels = grid @ rng.normal(size=c) + rng.normal(size=(n, size, size))
    means = block_means(torch.from_numpy(pixels), Grid(side, side)).flatten()
    rows = torch.cat([torch.from_numpy(tokens).flatten(0, 1), means[:, None]], dim=1)
    moments = moments_of(rows)
    features, target = torch.arange(c), torch.tensor([c])
    alpha = penalty * float(moments.scatter.diagonal()[:c].mean())
    weights, intercept = solve(
        moments, features, target, torch.tensor([alpha], dtype=torch.float64)
    )
    per_block = (size // side) ** 2
    direct = Ridge(alpha=alpha * per_block, solver="svd").fit(grid.reshape(-1, c), pixels.ravel())
    assert relative(weights[0, :, 0], direct.coef_) < 1e-9
    assert float(intercept[0, 0]) == pytest.approx(direct.intercept_, rel=1e-9)
    within = pixels.reshape(n, side, 3, side, 3).var((2, 4)).mean()
    error = np.mean((direct.predict(grid.reshape(-1, c)) - pixels.ravel()) ** 2)
    assert float(loss(moments, features, target, weights, intercept)) + within == pytest.approx(
        error, rel=1e-9
    )
