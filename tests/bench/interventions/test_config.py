"""The defaults of an intervention experiment, and the controls that it runs."""

from __future__ import annotations

from bench.interventions.arms import EDIT, LATE, RANDOM
from bench.interventions.config import Plan, completed
from bench.interventions.runner import edits, with_controls
from probes.probe_set import PERMUTED


def test_every_control_goes_with_the_chosen_strengths_and_random_with_all() -> None:
    layers = [f"{block}.{index}" for block in ("mid", "up1", "up2", "up3") for index in range(3)]
    plan = completed(Plan(), layers, range(1, 16), 15)
    chosen = [arm for arm in edits(plan) if arm.strength == 4.0]
    arms = with_controls(plan, chosen)
    count = {
        control: sum(arm.control == control for arm in arms)
        for control in (EDIT, RANDOM, PERMUTED, LATE)
    }
    assert count == {EDIT: 15, RANDOM: 15, PERMUTED: 3, LATE: 3}
    assert {arm.strength for arm in arms if arm.control in (PERMUTED, LATE)} == {4.0}
    assert {arm.method for arm in arms if arm.control == LATE} == {"weights", "pattern", "adam"}


def test_defaults_are_the_papers() -> None:
    layers = [
        f"{block}.{index}" for block in ("down0", "mid", "up1", "up2", "up3") for index in range(3)
    ]
    plan = completed(Plan(), layers, range(1, 16), 15)
    assert plan.layers == tuple(layers[6:])
    assert plan.steps == (1, 2, 3, 4, 5)
    assert plan.late_steps == (11, 12, 13, 14, 15)
    assert completed(Plan(steps=(1,)), layers, range(1, 51), 50).late_steps == tuple(range(34, 51))
    assert completed(Plan(steps=(1,)), layers, range(1, 5), 4).late_steps == (4,)
    depth = completed(Plan(task="depth"), layers, range(1, 16), 15)
    assert depth.layers == tuple(layers)
    assert depth.steps == (1, 2, 3)
    assert max(depth.strengths) < 2 < max(plan.strengths)
