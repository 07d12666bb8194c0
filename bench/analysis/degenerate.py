"""Labels that leave nothing to predict, such as empty masks, as caveats of a run's scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.runs.results import Results, TaskResults
from probes.score import PEARSON, SPEARMAN

MOST = 0.5
"""Share of the test images from which on such labels are told."""


def degenerate_labels(results: Results) -> list[str]:
    """Return a sentence for each kind of label that most test images have and no probe can fail."""
    found = [*_masks(results)]
    for task in results.tasks.values():
        if not (sentence := _constant(task)) and not found:
            sentence = _equal(task)
        found += [sentence] if sentence else []
    return found


def _masks(results: Results) -> Iterator[str]:
    count = len(results.foreground)
    for kind, chosen in (("empty", results.foreground <= 0), ("full", results.foreground >= 1)):
        if count and chosen.mean() >= MOST:
            yield (
                f"degenerate labels: the mask of the salient object is {kind} in "
                f"{chosen.sum()} of {count} test images, on which Dice tells nothing apart; "
                "check the labeler"
            )


def _constant(task: TaskResults) -> str | None:
    """A correlation is undefined in every cell where the label is constant."""
    for metric in (SPEARMAN.name, PEARSON.name):
        if metric in task.metrics:
            scores = task.scores[:, task.metrics.index(metric)]
            constant = np.isnan(scores).all(0)
            if constant.size and constant.mean() >= MOST:
                return (
                    f"degenerate labels: {task.name} is constant in {constant.sum()} of "
                    f"{constant.size} test images; check the labeler"
                )
    return None


def _equal(task: TaskResults) -> str | None:
    """Where labels tell something, the controls do not score as the probes do."""
    scores = task.scores[:, 0]
    if len(scores) > 1 and np.array_equal(scores, np.broadcast_to(scores[0], scores.shape), True):
        return (
            f"degenerate labels: all probes and controls of {task.name} have the same scores; "
            "check the labeler"
        )
    return None
