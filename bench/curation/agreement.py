"""Agreement of two labelers on the same images, which bounds what probes can be expected to reach.

The second labeler is scored against the first as a probe would be, per image and at full
resolution, with intervals over images. Depth is in each labeler's own standard deviations:
``rmse_aligned`` and the correlations do not depend on the two scales, ``rmse`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from tabulate import tabulate
from torch import Tensor

from bench.config import Config
from bench.curation.make import images_in
from bench.errors import UserError
from bench.labeling import reader_of, refuse_networks, takes_networks, without_networks
from bench.registry import plugin
from datasets.grid import Grid
from datasets.labeler import Reader
from datasets.labels import Labels
from probes.blocks import Blocks
from probes.bootstrap import Score, intervals
from probes.score import Metric
from probes.task import Task

_IMAGES_PER_BATCH = 8


def agreement_of(
    first: Reader, second: Reader, images: UInt8[Tensor, "n 3 h w"], tasks: Mapping[str, Task]
) -> dict[tuple[str, str], Score]:
    """Score ``second`` against ``first`` by every (task, metric)."""
    scores: dict[tuple[str, str], list[Tensor]] = {}
    for batch in images.split(_IMAGES_PER_BATCH):
        rgb = batch.float() / 255
        reference, other = first(rgb), second(rgb)
        for name, task in tasks.items():
            for metric in task.metrics:
                scores.setdefault((name, metric.name), []).append(
                    label_scores(task, metric, reference, other)
                )
    span = intervals(np.stack([torch.cat(parts).numpy() for parts in scores.values()]))
    rows = np.stack([span.mean, span.low, span.high], axis=1).tolist()
    return {name: Score(*row) for name, row in zip(scores, rows, strict=True)}


def label_scores(
    task: Task, metric: Metric, reference: Labels, other: Labels
) -> Float[Tensor, " n"]:
    """Score other labels against reference labels, per image."""
    target = task.target(reference).double()
    prediction = task.target(other).double().flatten(2)[None]
    # Masks are 0 or 1, so every threshold between them leaves them as they are.
    threshold = torch.tensor([0.5], dtype=torch.float64)
    pixels = Blocks(target, Grid(*target.shape[-2:]))
    return metric.compute(prediction, pixels, threshold)[0].double()


def print_agreement(
    config: Config, labelers: Sequence[str], images: Path, limit: int | None
) -> None:
    """Print every metric of the configuration's tasks."""
    if len(labelers) != 2 or labelers[0] == labelers[1]:
        raise UserError(
            "agreement is between two labelers, such as --labelers tiny,midas, "
            f"not {', '.join(labelers) or 'none'}"
        )
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    pixels = images_in(images)[:limit]
    tasks: dict[str, Task] = {name: plugin("task", name) for name in config.tasks}
    if not any(takes_networks(name) for name in labelers):
        refuse_networks(config, " and ".join(labelers))
    first, second = (
        reader_of(config if takes_networks(name) else without_networks(config), name)
        for name in labelers
    )
    rows = [
        {
            "task": task,
            "metric": metric,
            "mean": f"{score.mean:.3f}",
            "interval": f"[{score.low:.3f}, {score.high:.3f}]",
        }
        for (task, metric), score in agreement_of(first, second, pixels, tasks).items()
    ]
    print(
        f"{labelers[1]} scored against {labelers[0]} on {len(pixels)} images, "
        "95 % intervals over images"
    )
    print(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True))
