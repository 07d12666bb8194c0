"""Probes of standardised activations against scikit-learn's scaler and ridge regression."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes.moments import moments_of, total
from probes.probe_set import STANDARDISED, Probes, tensors_of
from probes.ridge import PENALTIES, Problem, fit_all
from probes.shared_eigenbases import KeptEigenbases, bytes_of_eigenbases
from probes.solve import solve_sites
from probes.standardised import deviations, scaled

MASSIVE, CONSTANT = 3, 5


def rows_with_massive_channel(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features with a massive and a constant channel, targets of the others, and folds."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n, 8)) @ (np.eye(8) + 0.3 * rng.normal(size=(8, 8))) + 1
    y = x[:, :3] @ rng.normal(size=(3, 2)) + 0.3 * rng.normal(size=(n, 2))
    x[:, MASSIVE] = 1e4 * rng.normal(size=n) - 3e4
    x[:, CONSTANT] = 0.1
    return x, y, np.sort(rng.integers(0, 5, n))


def moments_by_fold(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> list:
    rows = torch.from_numpy(np.concatenate([x, y], axis=1))
    return [moments_of(rows[fold == k]) for k in range(5)]


def test_penalty_loss_and_weights_equal_a_grid_search_of_scaler_and_ridge() -> None:
    x, y, fold = rows_with_massive_channel()
    problems = [Problem(torch.tensor([8, 9]))]
    (actual,) = fit_all(moments_by_fold(x, y, fold), torch.arange(8), problems, standardised=True)
    # Seven of the eight channels have unit variance after scaling; the constant one has none.
    alphas = np.array(PENALTIES) * len(x) * 7 / 8
    for k in range(2):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), Ridge(solver="svd")),
            {"ridge__alpha": alphas},
            cv=PredefinedSplit(fold),
            scoring="neg_mean_squared_error",
        ).fit(x, y[:, k])
        assert int(actual.penalty_index[k]) == search.best_index_
        mean_loss = -search.cv_results_["mean_test_score"]
        np.testing.assert_allclose(actual.cv_loss[:, k], mean_loss, rtol=1e-6)
        predicted = x @ actual.weights[:, k].numpy() + float(actual.intercept[k])
        np.testing.assert_allclose(predicted, search.predict(x), rtol=1e-6, atol=1e-6)


def test_one_penalty_serves_all_channels_only_where_they_are_standardised() -> None:
    x, y, fold = rows_with_massive_channel()
    y = y + 2e-4 * x[:, [MASSIVE]]
    folds, problems = moments_by_fold(x, y, fold), [Problem(torch.tensor([8, 9]))]
    # Penalties from 1e-2 of the mean variance on, which the massive channel dominates.
    losses = [
        float(
            fit_all(folds, torch.arange(8), problems, PENALTIES[10:], standardised=each)[
                0
            ].chosen_loss.mean()
        )
        for each in (False, True)
    ]
    assert losses[1] < losses[0] / 2


def test_moments_are_those_of_the_scaled_rows() -> None:
    x, y, _ = rows_with_massive_channel()
    rows, features = torch.from_numpy(np.concatenate([x, y], axis=1)), torch.arange(8)
    moments = moments_of(rows)
    spread = deviations(moments, features)
    np.testing.assert_allclose(spread, StandardScaler().fit(x).scale_, rtol=1e-9)
    actual = scaled(moments, features, 1 / spread)
    expected = moments_of(torch.cat([rows[:, :8] / spread, rows[:, 8:]], dim=1))
    torch.testing.assert_close(actual.mean, expected.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(actual.scatter, expected.scatter, rtol=1e-9, atol=1e-9)
    assert torch.equal(total([moments]).scatter, moments_of(rows).scatter)


def solved(world: SimpleNamespace, standardised: bool, folds: int = 5, **options: object) -> Probes:
    return solve_sites(
        world.folds[:folds],
        list(world.tasks),
        world.steps,
        {"trained"},
        1,
        standardised=standardised,
        **options,
    )


def test_they_are_added_beside_probes_whose_bits_they_leave(world: SimpleNamespace) -> None:
    plain, both = solved(world, False), solved(world, True)
    for task in world.tasks:
        added = [cell for cell in both[task] if cell not in plain[task]]
        sites = [("trained", layer) for network, layer in world.sides if network == "trained"]
        assert {(cell.network, cell.layer) for cell in added} == set(sites)
        assert {cell.probe for cell in added} == {STANDARDISED}
        assert len(added) == len(sites) * len(world.steps)
        kept = {cell: probe for cell, probe in both[task].items() if cell in plain[task]}
        before, after = tensors_of({task: plain[task]}), tensors_of({task: kept})
        assert all(
            torch.equal(value, after[name])
            for name, value in before.items()
            if not name.endswith("/cells")
        )


def test_the_draft_keeps_their_eigenbases_for_the_final_fit(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    real = torch.linalg.eigh
    monkeypatch.setattr(
        torch.linalg, "eigh", lambda matrix: (sides.append(len(matrix)), real(matrix))[1]
    )
    alone = solved(world, True)
    without = len(sides)
    kept = KeptEigenbases((0, 1, 2, 3), 1 << 30)
    solved(world, True, folds=4, sharing=kept.keep)
    assert kept.nbytes == bytes_of_eigenbases(
        world.folds[0], len(world.steps), {"trained"}, standardised=True
    )
    sides.clear()
    shared = solved(world, True, sharing=kept.take)
    # One in six of every fit: the draft's.
    assert len(sides) == without * 5 // 6
    one, other = tensors_of(alone), tensors_of(shared)
    assert all(torch.equal(one[name], other[name]) for name in one)
