"""What a task of one's own may get wrong is one sentence that names the task."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.registry import plugin, plugins
from datasets.errors import DatasetError
from datasets.labels import Labels
from probes.score import PEARSON, RMSE
from probes.task import Task
from probes.task_check import checked

LABELS = Labels(torch.rand(2, 6, 8), torch.rand(2, 6, 8) > 0.5)


def of(target: Callable[[Labels], object], per_image: bool = False) -> Task:
    return Task(target, (RMSE,), per_image=per_image)  # type: ignore[arg-type]


def nan_in_the_second(labels: Labels) -> Tensor:
    value = labels.disparity[:, None].clone()
    value[1, 0, 2, 3] = torch.nan
    return value


FAULTS = {
    "no axis of channels": (of(lambda x: x.disparity), "has the shape 2 x 6 x 8, expected 2 x "),
    "a map for whole images": (
        of(lambda x: x.disparity[:, None], per_image=True),
        "has the shape 2 x 1 x 6 x 8, expected 2 x channels x 1 x 1",
    ),
    "one image of two": (of(lambda x: x.disparity[:1, None]), "has the shape 1 x 1 x 6 x 8"),
    "a number": (of(lambda x: 3.0), "is a float, expected a tensor"),
    "nan": (of(nan_in_the_second), "has NaN or infinite values for image 2 of 2"),
}


@pytest.mark.parametrize(("task", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_target_is_named(task: Task, said: str) -> None:
    with pytest.raises(DatasetError) as caught:
        checked("mine", task).target(LABELS)
    assert str(caught.value).startswith(f"the target of the task mine {said}")


def test_metrics_must_suit_the_target() -> None:
    with pytest.raises(DatasetError, match="the task mine has no metrics"):
        checked("mine", Task(lambda x: x.disparity[:, None], ()))
    one = Task(lambda x: x.disparity.mean((1, 2))[:, None, None, None], (RMSE, PEARSON))
    assert checked("mine", one).metrics == one.metrics
    with pytest.raises(DatasetError, match="one label per image and the metric pearson"):
        checked("mine", Task(one.target, one.metrics, per_image=True))


@pytest.mark.parametrize("name", plugins("task"))
def test_the_shipped_tasks_suit_their_metrics(name: str) -> None:
    assert checked(name, plugin("task", name)).metrics
