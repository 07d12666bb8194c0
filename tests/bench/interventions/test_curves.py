"""Curves of effect against damage equal what can be read off them by hand."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
import torch

from bench.interventions.arms import EDIT, RANDOM, Arm
from bench.interventions.config import Plan
from bench.interventions.curves import curve_values, curves_of, turned
from bench.interventions.trials import NO_EDIT, Trials, smallest_visible
from datasets.items import Item
from probes.bootstrap import effects
from probes.task import Task
from probes.tasks.depth import TASK as DEPTH
from probes.tasks.saliency import TASK as SALIENCY

ITEMS = 12
LAYERS, STEPS = ("up",), (1,)


def test_a_curve_starts_at_no_edit_and_is_straight_between_strengths() -> None:
    damage, effect = np.array([[0.02, 0.06, 0.10]]), np.array([[0.1, 0.5, 0.3]])
    at = np.array([0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.10, 0.5])
    expected = np.interp(at, [0, *damage[0]], [0, *effect[0]])
    np.testing.assert_allclose(curve_values(damage, effect, at)[0], expected)


def test_a_curve_is_read_where_it_first_passes_the_damage() -> None:
    # Damage falls back below the limit at the third strength.
    damage, effect = np.array([[0.04, 0.08, 0.03, 0.2]]), np.array([[0.1, 0.3, 0.9, 1.0]])
    assert curve_values(damage, effect, np.array([0.06]))[0, 0] == pytest.approx(0.2)


def test_a_curve_is_read_before_an_undefined_score() -> None:
    damage, effect = np.array([[0.06, 0.2], [0.06, np.nan]]), np.array([[0.3, np.nan], [0.3, 0.5]])
    values = curve_values(damage, effect, np.array([0.05, 0.1]))
    np.testing.assert_allclose(values[0, 0], 0.25)
    np.testing.assert_allclose(values[1, 0], 0.25)
    assert np.isnan(values[:, 1]).all()


def test_an_item_with_an_undefined_score_has_no_curve() -> None:
    values = curve_values(np.array([[0.1], [0.1]]), np.array([[nan], [0.4]]), np.array([0.05]))
    assert np.isnan(values[0, 0])
    assert values[1, 0] == pytest.approx(0.2)


def trials_of(task: Task, arms: dict[tuple[str, str, float], tuple[float, float]]) -> Trials:
    """Trials whose items have a mean score and damage per arm, and small differences."""
    items = [Item(str(number), "", number, "test") for number in range(ITEMS)]
    trials = Trials(task, "test", items, [((1, 1), (2, 2))] * ITEMS)
    rng = np.random.default_rng(0)
    for (method, control, strength), (score, damage) in arms.items():
        arm = NO_EDIT if method == "null" else Arm(method, control, strength, LAYERS, (0,))
        table = torch.zeros(2 * ITEMS, len(trials.columns), dtype=torch.float64)
        table[:, trials.columns.index(trials.headline)] = score + torch.from_numpy(
            rng.normal(0, 0.01, 2 * ITEMS)
        )
        table[:, trials.columns.index("damage")] = damage
        trials.add(arm, {"scores": table})
    return trials


@pytest.mark.parametrize("task", [SALIENCY, DEPTH])
def test_methods_are_compared_at_equal_damage(task: Task) -> None:
    sign = task.metrics[0].sign
    arms = {("null", "null", 0.0): (0.2 * sign, 0.0)}
    # ``weights`` scores higher at every strength, with twice the damage.
    for method, gains, damages in (
        ("pattern", (0.2, 0.4), (0.04, 0.08)),
        ("weights", (0.24, 0.48), (0.08, 0.16)),
    ):
        for strength, gain, damage in zip((4.0, 8.0), gains, damages, strict=True):
            arms[method, EDIT, strength] = (sign * (0.2 + gain), damage)
            arms[method, RANDOM, strength] = (sign * (0.2 + gain / 2), damage)
    plan = Plan(
        methods=("pattern", "weights"),
        strengths=(4.0, 8.0),
        layers=LAYERS,
        steps=STEPS,
        damages=(0.04, 0.08),
    )
    curves, (contest,) = curves_of(trials_of(task, arms), plan)
    pattern, weights = curves
    gains = [[effect[0] for effect in curve.effects] for curve in curves]
    np.testing.assert_allclose(gains, [[0.2, 0.4, 0.2], [0.12, 0.24, 0.12]], atol=0.02)
    assert pattern.reached == (1.0, 0.0)
    assert weights.reached == (1.0, 1.0)
    assert pattern.random_reached == (1.0, 0.0)
    assert pattern.over_random is not None
    np.testing.assert_allclose([x[0] for x in pattern.over_random], [0.1, 0.2, 0.1], atol=0.02)
    assert (contest.first, contest.second) == ("pattern", "weights")
    assert all(low > 0 for _, low, _ in contest.effects)


def test_a_method_turns_where_its_score_falls_or_its_damage_is_large() -> None:
    def of(scores: tuple[float, ...], damage: float = 0.01) -> Trials:
        arms = {("null", "null", 0.0): (0.2, 0.0)}
        for number, score in enumerate(scores):
            arms["pattern", EDIT, 2.0**number] = (score, damage)
        return trials_of(SALIENCY, arms)

    assert not turned(of((0.3, 0.5)), "pattern", 0.2)
    assert turned(of((0.5, 0.3)), "pattern", 0.2)
    assert turned(of((0.3, 0.5), damage=0.3), "pattern", 0.2)
    assert not turned(of((0.3,)), "pattern", 0.2)
    assert turned(of((0.3, nan)), "pattern", 0.2)


def test_scores_that_are_undefined_for_every_item_are_no_error() -> None:
    arms = {
        ("null", "null", 0.0): (0.2, 0.0),
        ("pattern", EDIT, 4.0): (nan, 0.3),
        ("pattern", RANDOM, 4.0): (nan, 0.3),
    }
    trials = trials_of(SALIENCY, arms)
    plan = Plan(methods=("pattern",), strengths=(4.0,), layers=LAYERS, steps=STEPS)
    (curve,), _ = curves_of(trials, plan)
    assert np.isnan(curve.score[0])
    (edit,) = (record for record in trials.records() if record.control == EDIT)
    assert edit.visible is not None
    assert edit.visible.keys() == {"null", RANDOM}
    assert np.isnan(list(edit.visible.values())).all()


def test_no_share_of_images_reaches_a_damage_that_none_can_show() -> None:
    arms = {("null", "null", 0.0): (0.2, nan), ("pattern", EDIT, 4.0): (0.4, nan)}
    plan = Plan(methods=("pattern",), strengths=(4.0,), layers=LAYERS, steps=STEPS)
    (curve,), _ = curves_of(trials_of(SALIENCY, arms), plan)
    assert np.isnan(curve.reached).all()
    assert curve.random_reached is None
    assert np.isnan(curve.effects).all()


@pytest.mark.parametrize(
    ("images", "least", "most"),
    [(20, 0.67, 0.78), (60, 0.75, 0.87), (100, 0.75, 0.85), (250, 0.76, 0.84)],
)
def test_the_smallest_visible_effect_is_seen_in_four_of_five_samples(
    images: int, least: float, most: float
) -> None:
    """By the test that is used, which asks more of fewer than 60 images than the formula does."""
    rng = np.random.default_rng(1)
    effect = np.mean([smallest_visible(rng.normal(0, 1, images)) for _ in range(40)])
    seen = effects(rng.normal(effect, 1, (1200, images))).p <= 0.05
    assert least < seen.mean() < most


def test_one_image_shows_no_effect() -> None:
    assert np.isnan(smallest_visible(np.array([1.0, np.nan])))
