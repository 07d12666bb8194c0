"""Benchmarks of the parts that take most of a run's time.

    python -m pytest tests/performance --benchmark-enable --benchmark-only --benchmark-autosave
    python -m pytest tests/performance --benchmark-enable --benchmark-only --benchmark-compare \\
        --benchmark-compare-fail=median:20%

By default each runs once, for the reference engine. Shapes are checked as in all tests, which costs
the same every time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from bench.registry import plugin, plugins
from datasets.grid import Grid
from datasets.labels import Labels
from engines.components import Components
from engines.engine import Backend, Engine, Tap
from extract.networks import TRAINED
from probes.accumulate import DRAWS, Accumulator
from probes.bootstrap import paired_difference
from probes.probe_set import PERMUTED, ProbeSet
from probes.readout import Readout
from probes.solve import solve_probe_set
from probes.statistics import SufficientStatistics
from probes.tasks.depth import TASK as DEPTH
from probes.tasks.saliency import TASK as SALIENCY

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

IMAGES, SIDE, CHANNELS, PIXELS = 8, 16, 32, 64
FOLDS = 5
TASKS = {"depth": DEPTH, "saliency": SALIENCY}


def labels(seed: int) -> Labels:
    generator = torch.Generator().manual_seed(seed)
    disparity = torch.randn(IMAGES, PIXELS, PIXELS, generator=generator)
    return Labels(disparity, disparity > 0.8)


def activations(seed: int) -> torch.Tensor:
    """Random activations with the shape of a layer of the shipped model."""
    return torch.randn(IMAGES, SIDE * SIDE, CHANNELS, generator=torch.Generator().manual_seed(seed))


def accumulated(seed: int) -> SufficientStatistics:
    orders = [[(item + draw) % IMAGES for item in range(IMAGES)] for draw in range(1, DRAWS + 1)]
    accumulator = Accumulator(TASKS, orders)
    accumulator.update(0, TRAINED, "up3.0", activations(seed), Grid(SIDE, SIDE))
    accumulator.finish(labels(seed))
    return accumulator.sums()


@pytest.fixture(scope="module")
def folds() -> list[SufficientStatistics]:
    return [accumulated(seed) for seed in range(FOLDS)]


@pytest.fixture(scope="module")
def probe_set(folds: list[SufficientStatistics]) -> ProbeSet:
    return solve_probe_set(folds, list(TASKS), (0,), {TRAINED}, 1)


@pytest.mark.parametrize("name", plugins("engine"))
def test_one_denoising_step(
    name: str,
    components: Components,
    taps: tuple[Tap, ...],
    cache: Path,
    benchmark: BenchmarkFixture,
) -> None:
    backend: Backend = plugin("engine", name)
    reason = backend.unavailable()
    if benchmark.disabled and name != "torch_eager":
        reason = "opening this engine takes seconds; --benchmark-enable times it"
    if reason:
        pytest.skip(reason)
    engine: Engine = backend.open(components.denoiser, taps, cache, 1)
    latents = torch.randn(
        2 * IMAGES, *components.latent_shape, generator=torch.Generator().manual_seed(0)
    )
    text = components.embed(["a cyan cone on a clay floor"]).expand(2 * IMAGES)
    prediction = benchmark(engine, latents, 500.0, text)
    assert prediction.noise.shape == latents.shape


def test_accumulation_of_a_block(benchmark: BenchmarkFixture) -> None:
    sums = benchmark(accumulated, 0)
    assert sums.moments[TRAINED, "up3.0"].n == IMAGES * SIDE * SIDE


def test_solving_a_site(folds: list[SufficientStatistics], benchmark: BenchmarkFixture) -> None:
    probe_set = benchmark(solve_probe_set, folds, list(TASKS), (0,), {TRAINED}, 1)
    assert sum(cell.probe == PERMUTED for cell in probe_set.probes["depth"]) == DRAWS


def test_scoring_a_block(probe_set: ProbeSet, benchmark: BenchmarkFixture) -> None:
    block, block_labels = activations(99), labels(99)

    def score() -> dict[str, torch.Tensor]:
        readout = Readout(probe_set, TASKS)
        readout.update(0, TRAINED, "up3.0", block, Grid(SIDE, SIDE))
        readout.finish(block_labels)
        return readout.scores()

    scores = benchmark(score)
    assert scores["depth"].shape == (len(probe_set.cells("depth")), len(DEPTH.metrics), IMAGES)


def test_testing_many_cells(benchmark: BenchmarkFixture) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(480, 371)), rng.normal(size=(480, 371))
    difference = benchmark(paired_difference, first, second)
    assert 0.01 < (difference.p <= 0.05).mean() < 0.1
