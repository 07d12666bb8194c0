"""Runs of several models on the same items, with chosen scores and noise levels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.runs.results import Results
from tests.synthetic_run import STEPS, Quality, made_run, quality

LEVELS = tuple(-7.0 + step for step in range(len(STEPS)))
"""Log-SNR of the 15 steps."""


def run_of(
    model: str,
    of: Quality = quality,
    levels: Sequence[float] = LEVELS,
    tasks: Iterable[str] = ("saliency", "depth"),
    images: int = 80,
    shift: float = 0.0,
    seed: int = 1,
    **options: object,
) -> Results:
    """A run of a model whose steps have these log-SNR, with scores of its own.

    ``shift`` is added to the quality of everything.
    """
    made = made_run(of, tasks, images=images, model=model, path=Path("runs") / model, **options)
    rng = np.random.default_rng(seed)
    moved = {}
    for name, task in made.tasks.items():
        signed = task.sign() * shift + rng.normal(0, 0.02, task.scores.shape)
        moved[name] = replace(task, scores=task.scores + signed)
    known = {
        "log_snr": tuple(level if np.isfinite(level) else None for level in levels),
        "sigmas": tuple(
            float(np.exp(-level / 2)) if np.isfinite(level) else 1.0 for level in levels
        ),
        "conditions": {},
    }
    return replace(made, record=made.record.model_copy(update=known), tasks=moved)


def with_conditions(results: Results, **conditions: str) -> Results:
    """The run with conditions such as its dataset."""
    return replace(results, record=results.record.model_copy(update={"conditions": conditions}))
