"""Labels that leave nothing to predict, such as empty masks, as caveats of a run's scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.runs.results import Results, TaskResults
from probes.probe_set import FOREGROUND
from probes.score import DICE, PEARSON, SPEARMAN

MOST = 0.5
"""Share of the test images from which on such labels are told."""


def degenerate_labels(results: Results) -> list[str]:
    """Return a sentence for each kind of label that most test images have and no probe can fail."""
    found = []
    for task in results.tasks.values():
        named = [*_masks(task), *_constant(task)]
        # Equal scores follow from what was named of the same task.
        found += named or [*_equal(task)]
    return found


def _masks(task: TaskResults) -> Iterator[str]:
    """Find masks without an object or without a background; only thresholded tasks have masks.

    Dice of the prediction that everything is foreground is 0 of an empty mask and 1 of a full one.
    """
    for cell in task.where(network=FOREGROUND) if DICE.name in task.metrics else ():
        scores = task.score(cell, DICE.name)
        for kind, chosen in (("empty", scores <= 0), ("full", scores >= 1)):
            if chosen.size and chosen.mean() >= MOST:
                yield (
                    f"degenerate labels: the mask of {task.name} is {kind} in {chosen.sum()} of "
                    f"{chosen.size} test images, on which Dice tells nothing apart; "
                    "check the labeler"
                )


def _constant(task: TaskResults) -> Iterator[str]:
    """A correlation is undefined in every cell where the label is constant."""
    for metric in (SPEARMAN.name, PEARSON.name):
        if metric in task.metrics:
            scores = task.scores[:, task.metrics.index(metric)]
            constant = np.isnan(scores).all(0)
            if constant.size and constant.mean() >= MOST:
                yield (
                    f"degenerate labels: {task.name} is constant in {constant.sum()} of "
                    f"{constant.size} test images; check the labeler"
                )
                return


def _equal(task: TaskResults) -> Iterator[str]:
    """Where labels tell something, the controls do not score as the probes do."""
    scores = task.scores[:, 0]
    if len(scores) > 1 and np.array_equal(scores, np.broadcast_to(scores[0], scores.shape), True):
        yield (
            f"degenerate labels: all probes and controls of {task.name} have the same scores; "
            "check the labeler"
        )
