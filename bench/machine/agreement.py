"""A small run with an engine, against the same run with an engine of the CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.config import Config
from bench.machine.records import Agreement
from bench.run import run
from bench.runs.results import Results, read_results

STEPS = (5, 15)
LAYERS = ("mid", "up2")


def agreement_of(
    engine: str, reference: str, threads: int, items: int, sampler_steps: int
) -> Agreement:
    """Run the shipped model twice on the same items, and compare every cell's mean score."""
    steps = tuple(sorted({min(step, sampler_steps) for step in STEPS}))
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (
            _run(
                Config(
                    engine=name,
                    limit=items,
                    sampler_steps=sampler_steps,
                    steps=steps,
                    layers=LAYERS,
                    random_networks=0,
                    threads=threads,
                    out=str(Path(folder) / str(number)),
                )
            )
            for number, name in enumerate((engine, reference))
        )
    largest: dict[str, float | None] = {}
    cells = 0
    for name, task in ours.tasks.items():
        cells += len(task.cells)
        means = [_means(results.tasks[name].scores) for results in (ours, theirs)]
        for column, metric in enumerate(task.metrics):
            change = np.abs(means[0][:, column] - means[1][:, column])
            # A cell without a defined score has no mean: on both sides, or there is a fault.
            undefined = [np.isnan(mean[:, column]) for mean in means]
            is_sound = np.array_equal(undefined[0], undefined[1])
            finite = float(change[np.isfinite(change)].max(initial=0.0))
            largest[f"{name}, {metric}"] = finite if is_sound else None
    return Agreement(engine=engine, reference=reference, items=items, cells=cells, largest=largest)


def _means(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over images where a score is defined; nan where none is."""
    defined = np.isfinite(scores)
    counts = defined.sum(axis=2)
    totals = np.where(defined, scores, 0.0).sum(axis=2)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _run(config: Config) -> Results:
    return read_results(run(config).path)
