"""The best edit is chosen right where scores are undefined."""

from __future__ import annotations

from itertools import permutations
from math import nan

import pytest
import torch

from bench.interventions.arms import EDIT, Arm
from bench.interventions.trials import Trials
from datasets.items import Item
from probes.tasks.saliency import TASK as SALIENCY

SCORES = {1.0: [0.4, 0.4, 0.4], 2.0: [0.6, 0.5, 0.6], 4.0: [0.9, nan, 0.9], 8.0: [nan] * 3}
"""Per strength, the headline score of each item."""


@pytest.mark.parametrize("order", [*permutations(SCORES)])
def test_an_edit_with_undefined_scores_is_not_the_best(order: tuple[float, ...]) -> None:
    items = [Item(str(number), "", number, "train") for number in range(3)]
    trials = Trials(SALIENCY, "train", items, [((1, 1),)] * 3)
    for strength in order:
        table = torch.zeros(3, len(trials.columns), dtype=torch.float64)
        table[:, 0] = torch.tensor(SCORES[strength])
        trials.add(Arm("pattern", EDIT, strength, ("up",), (0,)), {"scores": table})
    assert trials.best(0.1).strength == 2.0


def test_an_edit_beyond_the_damage_is_chosen_only_where_there_is_no_other() -> None:
    items = [Item(str(number), "", number, "train") for number in range(3)]
    trials = Trials(SALIENCY, "train", items, [((1, 1),)] * 3)
    for method, strength, score, damage in (
        ("pattern", 4.0, 0.5, 0.05),
        ("pattern", 8.0, 0.6, 0.09),
        ("pattern", 16.0, 0.9, 0.11),
        ("published", 1.0, 0.8, 0.2),
    ):
        table = torch.zeros(3, len(trials.columns), dtype=torch.float64)
        table[:, 0] = score
        table[:, trials.columns.index("damage")] = damage
        trials.add(Arm(method, EDIT, strength, ("up",), (0,)), {"scores": table})
    assert trials.best(0.1).strength == 8.0
    assert trials.best(0.15).strength == 16.0
    assert trials.best(0.1, "published").strength == 1.0
