"""How far two labelers agree on the same images: no probe of one's labels can be asked to beat the other's reading.

The second labeler's answer is scored against the first's as a probe's would be, per image and at full resolution,
with intervals over images. Depth is in each labeler's own standard deviations: ``rmse_aligned`` and the correlations
do not depend on the two scales, ``rmse`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from bench.config import Config
from bench.curation.make import images_in
from bench.errors import UserError
from bench.labeling import reader_of, refuse_networks, takes_networks, without_networks
from bench.registry import plugin
from datasets.labeler import Reader
from datasets.labels import Labels
from probes.blocks import Blocks
from probes.bootstrap import intervals
from probes.score import Metric
from probes.task import Task

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """One metric's mean over images with its 95 % interval."""

    task: str
    metric: str
    mean: float
    low: float
    high: float


def agreement_of(
    first: Reader, second: Reader, images: Tensor, tasks: dict[str, Task]
) -> list[Agreement]:
    """Score ``second`` against ``first`` on 8-bit images n x 3 x side x side, by every metric of the tasks."""
    if images.shape[-1] != images.shape[-2]:
        raise UserError(f"images of {images.shape[-1]} x {images.shape[-2]} pixels are not square")
    scores: dict[tuple[str, str], list[Tensor]] = {}
    for chunk in images.split(_AT_ONCE):
        shown = chunk.float() / 255
        truth, other = first(shown), second(shown)
        for name, task in tasks.items():
            for metric in task.metrics:
                scores.setdefault((name, metric.name), []).append(
                    _score(task, metric, truth, other)
                )
    found = intervals(np.stack([torch.cat(parts).numpy() for parts in scores.values()]))
    return [
        Agreement(
            task, metric, float(found.mean[row]), float(found.low[row]), float(found.high[row])
        )
        for row, (task, metric) in enumerate(scores)
    ]


def _score(task: Task, metric: Metric, truth: Labels, other: Labels) -> Tensor:
    target = task.target(truth).double()
    guess = task.target(other).double().flatten(2)[None]
    # A mask answers with 0 and 1, so any threshold between them cuts it as its labeler did.
    return metric.compute(
        guess, Blocks(target, target.shape[-1]), torch.tensor([0.5], dtype=torch.float64)
    )[0].double()


def print_agreement(
    config: Config, labelers: Sequence[str], images: Path, limit: int | None
) -> None:
    """Print every metric of the configuration's tasks."""
    if len(labelers) != 2 or labelers[0] == labelers[1]:
        raise UserError(
            f"agreement is between two labelers, such as --labelers tiny,midas, not {', '.join(labelers) or 'none'}"
        )
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    shown = images_in(images)[:limit]
    tasks: dict[str, Task] = {name: plugin("task", name) for name in config.tasks}
    if not any(takes_networks(name) for name in labelers):
        refuse_networks(config, " and ".join(labelers))
    first, second = (
        reader_of(config if takes_networks(name) else without_networks(config), name)
        for name in labelers
    )
    rows = [
        [entry.task, entry.metric, f"{entry.mean:.3f}", f"[{entry.low:.3f}, {entry.high:.3f}]"]
        for entry in agreement_of(first, second, shown, tasks)
    ]
    print(
        f"{labelers[1]} scored against {labelers[0]} on {len(shown)} images, 95 % intervals over images"
    )
    print(
        tabulate(
            rows,
            headers=["task", "metric", "mean", "interval"],
            tablefmt="simple",
            disable_numparse=True,
        )
    )
