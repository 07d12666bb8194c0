"""The defaults of an intervention experiment, and the controls that it runs."""

from __future__ import annotations

import pytest

from bench.errors import UserError
from bench.interventions.arms import EDIT, LATE, RANDOM, UNMOVED
from bench.interventions.config import Plan, completed
from bench.interventions.runner import edits, with_controls
from probes.probe_set import PERMUTED

LAYERS = [f"{block}.{index}" for block in ("mid", "up1", "up2", "up3") for index in range(3)]


def test_every_control_goes_with_the_chosen_strengths_and_random_with_all() -> None:
    plan = completed(Plan(), LAYERS, range(1, 16), 15)
    methods = ("weights", "pattern", "ridge-adam", "published")
    assert plan.methods == methods
    chosen = [arm for arm in edits(plan) if arm.strength in (16.0, 1.0)]
    arms = with_controls(plan, chosen)
    count = {
        control: sum(arm.control == control for arm in arms)
        for control in (EDIT, RANDOM, PERMUTED, LATE)
    }
    assert count == {EDIT: 16, RANDOM: 16, PERMUTED: 4, LATE: 4}
    assert {arm.strength for arm in arms if arm.control in (PERMUTED, LATE)} == {16.0, 1.0}
    assert {arm.method for arm in arms if arm.control == LATE} == set(methods)


def test_a_controlnet_acts_at_all_steps_and_is_shown_the_unmoved_label_as_a_control() -> None:
    plan = completed(Plan(methods=("controlnet",)), LAYERS, range(1, 16), 15, controlnet=True)
    arms = with_controls(plan, edits(plan))
    assert {arm.control for arm in arms} == {EDIT, RANDOM, UNMOVED, LATE}
    assert {arm.steps for arm in arms if arm.control != LATE} == {tuple(range(15))}
    assert {arm.steps for arm in arms if arm.control == LATE} == {tuple(range(10, 15))}
    with pytest.raises(UserError, match="no ControlNet of this model"):
        completed(Plan(methods=("controlnet",)), LAYERS, range(1, 16), 15)


def test_each_method_has_its_own_strengths() -> None:
    plan = completed(Plan(strengths=(1.0, 2.0)), LAYERS, range(1, 16), 15, controlnet=True)
    assert plan.strengths_of("pattern") == (1.0, 2.0)
    assert plan.strengths_of("published") == (1.0,)
    assert plan.strengths_of("controlnet") == (0.25, 0.5, 1.0)
    assert plan.extend == 0
    grown = plan.with_grids({"pattern": (1.0, 2.0, 4.0)})
    assert grown.strengths_of("pattern") == (1.0, 2.0, 4.0)
    assert grown.strengths_of("weights") == (1.0, 2.0)
    assert completed(Plan(), LAYERS, range(1, 16), 15).extend == 2


def test_experiments_with_other_targets_have_their_own_folders() -> None:
    assert Plan().name == "saliency"
    assert Plan(unfiltered=True).name == "saliency-unfiltered"
    assert Plan(task="depth", target="nearer").name == "depth-nearer"
    depth = completed(Plan(task="depth", target="nearer"), LAYERS, range(1, 16), 15)
    assert depth.shifts == 1


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
    assert max(depth.strengths) < 4 < max(plan.strengths)
