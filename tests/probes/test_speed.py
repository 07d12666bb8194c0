"""Speed of ridge regression and scores against the direct computations."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from datasets.grid import Grid
from probes import score
from probes.blocks import Blocks
from probes.moments import moments_of
from probes.ridge import PENALTIES, Fit, fit
from probes.score import Metric

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.slow


def seconds(call: Callable[[], object], times: int = 1) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)


def test_ridge_from_sums_is_fifty_times_faster_than_grid_search(
    benchmark: BenchmarkFixture,
) -> None:
    rng = np.random.default_rng(0)
    n, c = 20_000, 64
    x = rng.normal(size=(n, c)) + 10
    y = x @ rng.normal(size=c) + 5 * rng.normal(size=n)
    fold = np.arange(n) * 5 // n
    rows = torch.from_numpy(np.concatenate([x, y[:, None]], axis=1))
    features, target = torch.arange(c), torch.tensor([c])
    alphas = np.array(PENALTIES) * ((x - x.mean(0)) ** 2).sum(0).mean()
    search = GridSearchCV(
        Ridge(),
        {"alpha": alphas},
        cv=PredefinedSplit(fold),
        scoring="neg_mean_squared_error",
        refit=True,
    )

    def from_rows() -> Fit:
        return fit([moments_of(part) for part in rows.split(n // 5)], features, target)

    folds = [moments_of(part) for part in rows.split(n // 5)]
    actual = benchmark(fit, folds, features, target)
    slow = seconds(lambda: search.fit(x, y))
    from_sums = seconds(lambda: fit(folds, features, target), times=10)
    whole = seconds(from_rows, times=3)
    assert int(actual.penalty_index) == search.best_index_
    print(
        f"\n{n} rows x {c} columns, {len(PENALTIES)} penalties x 5 folds: "
        f"GridSearchCV {slow:.2f} s, "
        f"from sums {from_sums * 1e3:.1f} ms ({slow / from_sums:.0f} times faster), "
        f"with taking the sums {whole * 1e3:.0f} ms ({slow / whole:.0f} times)"
    )
    assert slow / from_sums >= 50


@pytest.mark.parametrize(
    "metric",
    [
        score.DICE,
        score.AVERAGE_PRECISION,
        score.RMSE,
        score.RMSE_ALIGNED,
        score.PEARSON,
        score.SPEARMAN,
    ],
    ids=lambda metric: metric.name,
)
def test_scores_of_tokens_are_faster_than_scores_of_pixels(
    metric: Metric, pixels: SimpleNamespace, benchmark: BenchmarkFixture
) -> None:
    rng = np.random.default_rng(1)
    probes, side, size = 12, 32, 512
    target = rng.normal(size=(1, 1, size, size))
    if metric in (score.DICE, score.AVERAGE_PRECISION):
        target = (target > 0.8).astype(np.float64)
    tokens = rng.normal(size=(probes, 1, 1, side * side))
    prediction, threshold = torch.from_numpy(tokens), torch.full((probes,), 0.5)

    def fast() -> torch.Tensor:
        return metric.compute(
            prediction, Blocks(torch.from_numpy(target), Grid(side, side)), threshold
        )

    def on_pixels() -> list[float]:
        full = pixels.upsampled(tokens, size, size)
        return [
            pixels.metrics[metric.name](full[p, 0, 0], target[0, 0], 0.5) for p in range(probes)
        ]

    actual = benchmark(fast)
    np.testing.assert_allclose(actual[:, 0], on_pixels(), atol=1e-9)
    blocks = Blocks(torch.from_numpy(target), Grid(side, side))
    metric.compute(prediction, blocks, threshold)
    slow, quick = seconds(on_pixels, times=2), seconds(fast, times=3)
    warm = seconds(lambda: metric.compute(prediction, blocks, threshold), times=3)
    print(
        f"\n{metric.name}, {probes} probes of {side} x {side} tokens on {size} x {size} pixels: "
        f"pixels {slow * 1e3:.0f} ms, "
        f"tokens {quick * 1e3:.1f} ms ({slow / quick:.0f} times faster), "
        f"with block means computed {warm * 1e3:.2f} ms ({slow / warm:.0f} times)"
    )
    assert slow / warm >= 20
    assert slow / quick >= 2
