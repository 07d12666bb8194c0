"""A finished run with chosen mean scores, for tests of what is derived from runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from bench.config import Config
from bench.environment import Environment
from bench.runs.records import RunRecord
from bench.runs.results import Results, TaskResults
from probes.probe_set import (
    ACTIVATIONS,
    ALWAYS,
    CEILING,
    MEAN_MAP,
    PERMUTED,
    POSITION,
    WITH_POSITION,
    Cell,
)

STEPS = tuple(range(15))
LAYERS = ("down0", "mid", "up0", "up1")
LOWER_IS_BETTER = ("depth", "coordinates")
OF_IMAGES = ("colour", "shape")
SEEDS = 3
DRAWS = 5

Quality = Callable[[str, Cell], float]
"""(task, cell) -> mean quality; more is better in every task."""


def quality(_: str, cell: Cell) -> float:
    """What a network holds that does as the papers say, by default."""
    if cell.network == "trained":
        return 0.2 if cell.probe == PERMUTED else 0.8
    if cell.network == "vae":
        return 0.2 + 0.02 * cell.step
    return {"convolution": 0.6, CEILING: 0.9}.get(cell.network, 0.3)


def made_run(
    quality: Quality = quality,
    tasks: Iterable[str] = ("saliency", "depth"),
    layers: tuple[str, ...] = LAYERS,
    images: int = 80,
    noise: float = 0.05,
    path: Path | None = None,
    **options: object,
) -> Results:
    """A run whose cells have these mean qualities, on images that differ much."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.1, images)
    found = {}
    for task in tasks:
        cells = tuple(_cells(layers, task in OF_IMAGES))
        means = np.array([quality(task, cell) for cell in cells])
        scores = means[:, None] + image + rng.normal(0, noise, (len(cells), images))
        if task in LOWER_IS_BETTER:
            scores = 1 - scores
        losses = np.array(
            [
                np.nan if cell.network in (MEAN_MAP, CEILING) else -quality(task, cell)
                for cell in cells
            ]
        )
        found[task] = TaskResults(
            task,
            cells,
            losses,
            np.full(len(cells), np.nan),
            ("m",),
            (task not in LOWER_IS_BETTER,),
            "",
            scores[:, None],
        )
    record = RunRecord.model_construct(
        steps=STEPS,
        layers=layers,
        networks=("input", "trained", *_OTHERS),
        test_items=tuple(map(str, range(images))),
    )
    return Results(
        path or Path("runs/made"),
        Config(**options),
        "made",
        Environment.model_construct(),
        record,
        found,
        [],
        {},
        np.full(images, 0.1),
        {},
        None,
    )


_OTHERS = (*(f"own-{seed + 1}" for seed in range(SEEDS)), "vae", "convolution", "text", "decoded")


def _cells(layers: tuple[str, ...], of_images: bool) -> Iterator[Cell]:
    side = 1 if of_images else 8
    for step in STEPS:
        for layer in layers:
            yield Cell("trained", layer, step, ACTIVATIONS, 0, side)
            if not of_images:
                yield Cell("trained", layer, step, WITH_POSITION, 0, side)
            for draw in range(1, DRAWS + 1):
                yield Cell("trained", layer, step, PERMUTED, draw, side)
        for network in ("input", *_OTHERS):
            for layer in ("latent", "predicted") if network == "decoded" else ("only",):
                yield Cell(network, layer, step, ACTIVATIONS, 0, side)
        yield Cell("text", "only", step, WITH_POSITION, 0, side)
    if not of_images:
        yield Cell(POSITION, f"{side}x{side}", ALWAYS, POSITION, 0, side)
    yield Cell(CEILING, f"{side}x{side}", ALWAYS, CEILING, 0, side)
    yield Cell(MEAN_MAP, f"{side}x{side}", ALWAYS, MEAN_MAP, 0, side)
