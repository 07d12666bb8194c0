"""Check what a task's target gives: every fault is one sentence that names the task."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from datasets.errors import DatasetError
from datasets.labels import Labels
from probes.score import PEARSON, SPEARMAN
from probes.task import Task


def checked(name: str, task: Task) -> Task:
    """Return the task, whose target is checked from now on whenever it is computed.

    Raises DatasetError for a task without metrics, or with metrics that its target does not have.
    """
    if not task.metrics:
        raise DatasetError(f"the task {name} has no metrics; give it at least one")
    within = [
        metric.name for metric in task.metrics if metric.name in (SPEARMAN.name, PEARSON.name)
    ]
    if task.per_image and within:
        raise DatasetError(
            f"the task {name} has one label per image and the metric {within[0]}, a correlation "
            "over the pixels of an image; leave that metric out"
        )

    def target(labels: Labels) -> Tensor:
        value = task.target(labels)
        _refuse_faults(name, task, value, labels)
        return value

    return replace(task, target=target)


def _refuse_faults(name: str, task: Task, value: object, labels: Labels) -> None:
    n, *size = labels.saliency.shape
    says = f"the target of the task {name}"
    if not isinstance(value, Tensor):
        raise DatasetError(f"{says} is a {type(value).__name__}, expected a tensor; mend it")
    sides = [1, 1] if task.per_image else size
    if value.ndim != 4 or len(value) != n or list(value.shape[2:]) != sides:
        shape, expected = (
            " x ".join(map(str, sizes)) for sizes in (value.shape, (n, "channels", *sides))
        )
        raise DatasetError(f"{says} has the shape {shape}, expected {expected}; mend it")
    broken = ~value.flatten(1).isfinite().all(1)
    if broken.any():
        row = int(broken.int().argmax())
        raise DatasetError(
            f"{says} has NaN or infinite values for image {row + 1} of {n}; "
            "give every image a finite target"
        )
