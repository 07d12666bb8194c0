"""Agreement of the final labels of two models for the same item, beside controls.

Masks are compared by Dice and intersection over union, depth by Spearman's rank correlation over
pixels, classes by equality. The controls replace one model's label by that of an image which shares
less with the item: the prompt alone (other seed), the noise alone (other prompt), neither (other
item), or the mean of all other items' labels. All measures are symmetric; a control is the mean of
both directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from bench.across.models import ARCHITECTURE, OBJECTIVE, Model, unlike
from bench.across.readings import Readings
from datasets.grid import Grid
from datasets.labels import Labels
from probes.blocks import Blocks
from probes.bootstrap import (
    TEST_DRAWS,
    Array,
    Difference,
    Score,
    paired_difference,
    score_of,
)
from probes.multiple_testing import RATE, over_strongest, q_values
from probes.readout import THRESHOLDS
from probes.score import SPEARMAN, Metric
from probes.task import Task

IOU = "iou"
SAME, OTHER_SEED, OTHER_PROMPT, OTHER_ITEM, MEAN = (
    "same item",
    "other seed, same prompt",
    "same seed, other prompt",
    "other item",
    "mean of the other items",
)
"""Of whose label the score is; all but the first are controls."""
SHIFTS = 5
"""Other items per item, evenly spaced in the order of items."""
_MIDDLE = 0.5
"""Between the two values of a mask."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two models' final labels in one task."""

    models: tuple[str, str]
    unlike: str
    """In what the models differ."""
    task: str
    metric: str
    scores: dict[str, Score]
    """By whose label is compared."""
    gain: Score
    """Over the strongest control."""
    p: float
    q: float

    @property
    def holds(self) -> bool:
        """Whether the models agree more than every control, at a false discovery rate of 5 %."""
        return self.gain.mean > 0 and self.q <= RATE


def metric_of(task: Task) -> Metric:
    """Return the measure of a task: rank correlation where it has one, else its first metric."""
    return SPEARMAN if SPEARMAN in task.metrics else task.metrics[0]


def scored(
    task: Task, prediction: Tensor, target: Tensor, grid: Grid, threshold: float = _MIDDLE
) -> Array:
    """Return a score per image; ``prediction`` is n x channels x tokens, ``target`` a map."""
    at = torch.tensor([threshold], dtype=torch.float64)
    score = metric_of(task).compute(prediction.double()[None], Blocks(target.double(), grid), at)
    values: Array = score[0].numpy()
    return values


def between(task: Task, first: Labels, second: Labels) -> Array:
    """Return the agreement of two sets of labels, image by image."""
    prediction, target = task.target(first), task.target(second)
    return scored(task, prediction.flatten(2), target, Grid(*target.shape[-2:]))


def other_items(count: int) -> list[list[int]]:
    """Return for each control of another item which item takes each item's place."""
    step = max(1, count // (SHIFTS + 1))
    shifts = [step * k for k in range(1, SHIFTS + 1) if step * k < count]
    return [[(row + shift) % count for row in range(count)] for shift in shifts]


@lru_cache(maxsize=64)
def against_mean(task: Task, readings: Readings) -> Array:
    """Return the agreement of each of a model's own labels with the mean of all others.

    The mean of masks becomes a mask at the threshold with the best mean score over these items,
    which favours this control.
    """
    target = task.target(readings.own).double()
    mean = (target.sum(0, keepdim=True) - target) / (len(target) - 1)
    grid = Grid(*target.shape[-2:])
    candidates = THRESHOLDS if task.thresholded else (_MIDDLE,)
    found = [scored(task, mean.flatten(2), target, grid, cut) for cut in candidates]
    return max(found, key=lambda values: float(np.nanmean(values)))


def unlike_words(one: Model, other: Model) -> str:
    """Return in what two models differ."""
    named = unlike(one, other, (ARCHITECTURE, OBJECTIVE, "training_images", "seed"))
    return ", ".join(named).replace("training_images", "training") or "nothing known"


def agreements(readings: Sequence[Readings]) -> list[Agreement]:
    """Return the agreement of every pair of models in every task, tested together."""
    rows = [row for one, other in combinations(readings, 2) for row in _of_pair(one, other)]
    q = q_values(np.array([row.p for row in rows]))
    return [replace(row, q=float(value)) for row, value in zip(rows, q, strict=True)]


def _of_pair(one: Readings, other: Readings) -> Iterator[Agreement]:
    for name, task in one.tasks.items():
        scores = scores_of_pairs(task, one, other)
        yield _row(one, other, name, metric_of(task).name, means(scores))
        if task.thresholded:
            overlaps = {what: [_iou_of_dice(x) for x in dice] for what, dice in scores.items()}
            yield _row(one, other, name, IOU, means(overlaps))


def scores_of_pairs(task: Task, one: Readings, other: Readings) -> dict[str, list[Array]]:
    """Return the agreement with the same item and with every control, per item.

    There is a list for each, of the pairs of labels that an average is over.
    """
    orders = other_items(len(one.items))
    pairs = ((one, other), (other, one))
    return {
        SAME: [between(task, one.own, other.own)],
        OTHER_SEED: [between(task, a.own, b.reseeded) for a, b in pairs],
        OTHER_PROMPT: [between(task, a.own, b.other_prompt) for a, b in pairs],
        OTHER_ITEM: [between(task, a.own, b.own.take(order)) for a, b in pairs for order in orders],
        MEAN: [against_mean(task, x) for x in (one, other)],
    }


def means(scores: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
    """Average over pairs, per item."""
    return {what: _mean(each) for what, each in scores.items()}


def _iou_of_dice(dice: Array) -> Array:
    """The intersection over union of two masks, which is not that of a mean Dice."""
    return dice / (2 - dice)


def _mean(values: Sequence[Array]) -> Array:
    mean: Array = np.mean(values, axis=0)
    return mean


def _row(
    one: Readings, other: Readings, name: str, metric: str, values: dict[str, Array]
) -> Agreement:
    gain = over_controls(values, (OTHER_SEED, OTHER_PROMPT, OTHER_ITEM, MEAN))
    return Agreement(
        (one.model.name, other.model.name),
        unlike_words(one.model, other.model),
        name,
        metric,
        {what: score_of(scores) for what, scores in values.items()},
        Score(float(gain.mean[0]), float(gain.low[0]), float(gain.high[0])),
        float(gain.p[0]),
        float("nan"),
    )


def over_controls(
    values: dict[str, Array], controls: Sequence[str], draws: int = TEST_DRAWS
) -> Difference:
    """Return the gain of the same item over the strongest of the controls, paired over items.

    Values are per item, or rows of items. See :func:`probes.multiple_testing.over_strongest`.
    """
    same = np.atleast_2d(values[SAME])
    return over_strongest([paired_difference(same, values[name], draws) for name in controls])
