"""The gain over probes of permuted labels includes the variation between permutations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.interventions.arms import EDIT, Arm
from bench.interventions.trials import Trials
from datasets.items import Item
from probes.bootstrap import effect_of
from probes.multiple_testing import over_permuted
from probes.probe_set import PERMUTED
from probes.task import Task
from probes.tasks.depth import TASK as DEPTH
from probes.tasks.saliency import TASK as SALIENCY

ITEMS, SHIFTS = 40, 5
EDITED, CONTROL = (Arm("pattern", kind, 8.0, ("up",), (0,)) for kind in (EDIT, PERMUTED))


def trials_of(task: Task, draws: tuple[int, ...], spread: float, shifts: int = SHIFTS) -> Trials:
    """Trials with a gain of 0.1 over permutations whose scores differ by ``spread``."""
    rng = np.random.default_rng(3)
    items = [Item(str(number), "", number, "test") for number in range(ITEMS)]
    offsets = [tuple((1, number) for number in range(shifts))] * ITEMS
    trials = Trials(task, "test", items, offsets, draws)
    sign = -1 if task is DEPTH else 1
    of_shift = spread * np.linspace(-1, 1, shifts)
    for arm, mean in ((EDITED, np.full(shifts, 0.6)), (CONTROL, 0.5 + of_shift)):
        table = np.zeros((ITEMS, shifts, len(trials.columns)))
        table[..., trials.columns.index(trials.headline)] = sign * (
            mean + rng.normal(0, 0.02, (ITEMS, shifts))
        )
        trials.add(arm, {"scores": torch.from_numpy(table.reshape(ITEMS * shifts, -1))})
    return trials


@pytest.mark.parametrize("task", [SALIENCY, DEPTH])
def test_permutations_that_differ_widen_the_interval(task: Task) -> None:
    alike, unlike = (
        trials_of(task, (1, 2, 3, 4, 5), spread).gain(EDITED, CONTROL) for spread in (0.0, 0.2)
    )
    assert alike.mean == pytest.approx(0.1, abs=0.01)
    assert unlike.mean == pytest.approx(0.1, abs=0.01)
    assert alike.low > 0.05
    assert unlike.low < 0


def test_the_interval_is_that_of_the_probes_own_control() -> None:
    trials = trials_of(SALIENCY, (1, 2, 3, 4, 5), 0.1)
    at = trials.columns.index(trials.headline)
    gap = (trials.scores(EDITED) - trials.scores(CONTROL))[..., at]
    expected = over_permuted(np.zeros((1, ITEMS)), -gap.T[None])
    found = trials.gain(EDITED, CONTROL)
    assert (found.mean, found.low, found.high) == (
        expected.mean[0],
        expected.low[0],
        expected.high[0],
    )
    means = gap.mean(0)
    error = means.std(ddof=1) * np.sqrt(1 + 1 / SHIFTS)
    # Quantiles of Student's t with 4 degrees of freedom.
    assert trials.visible(EDITED, CONTROL) == pytest.approx(error * (2.776445 + 0.940965))


def test_gains_are_stated_permutation_by_permutation() -> None:
    trials = trials_of(SALIENCY, (1, 2, 3, 4, 5), 0.1)
    found = trials.gains_by_permutation(EDITED)
    assert found == pytest.approx([0.2, 0.15, 0.1, 0.05, 0.0], abs=0.02)
    assert np.mean(found) == pytest.approx(trials.gain(EDITED, CONTROL).mean)
    assert trials_of(SALIENCY, (1,), 0.1).gains_by_permutation(EDITED) == ()


def test_more_shifts_than_permutations_take_them_again() -> None:
    trials = trials_of(SALIENCY, (4, 5), 0.1, shifts=4)
    assert trials.permutations == 2
    at = trials.columns.index(trials.headline)
    gap = (trials.scores(EDITED) - trials.scores(CONTROL))[..., at]
    by_draw = np.stack([gap[:, 0::2].mean(1), gap[:, 1::2].mean(1)])
    expected = over_permuted(np.zeros((1, ITEMS)), -by_draw[None])
    assert trials.gain(EDITED, CONTROL).low == pytest.approx(expected.low[0])


@pytest.mark.parametrize(("draws", "shifts"), [((1,), 5), ((1, 2, 3, 4, 5), 1), ((), 5)])
def test_a_single_permutation_leaves_the_items_alone(draws: tuple[int, ...], shifts: int) -> None:
    trials = trials_of(SALIENCY, draws, 0.1, shifts)
    assert trials.permutations == (1 if draws else 0)
    gap = trials.quality(EDITED) - trials.quality(CONTROL)
    assert trials.gain(EDITED, CONTROL) == effect_of(gap)
