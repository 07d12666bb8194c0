"""Methods compared at equal damage: the curve of effect against damage, over strengths.

The trials of an item form one group. Its curve starts at no edit (damage 0, effect 0) and connects
the strengths of a method in their order; the effect is the gain of the headline score over no edit,
both are means over the item's trials. At a stated damage the effect is read where the curve first
passes it; a curve that ends before keeps its last effect, as nothing stronger was run. The area is
the mean effect over damages from 0 to the largest stated one. Intervals are bootstraps over items;
differences between methods are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from itertools import combinations

import numpy as np

from bench.interventions.arms import EDIT, RANDOM, Arm
from bench.interventions.config import Plan
from bench.interventions.records import DAMAGE, Contest, Curve
from bench.interventions.runner import edit_arm
from bench.interventions.trials import NO_EDIT, Trials
from probes.bootstrap import Array, effect_of, score_of

_POINTS = 51
"""Damages, evenly spaced from 0, at which a curve is read for its area by the trapezoidal rule."""


def curve_values(damage: Array, effect: Array, at: Array) -> Array:
    """Read the curves of n items at some damages, n x damages.

    ``damage`` and ``effect`` are n x strengths, in the order of the strengths. A value is nan where
    one of the strengths up to that at which it is read is undefined.
    """
    start = np.zeros((len(damage), 1))
    x, y = np.hstack([start, damage]), np.hstack([start, effect])
    values = np.full((len(x), len(at)), np.nan)
    for row, (own, gains) in enumerate(zip(x, y, strict=True)):
        defined = np.isfinite(own) & np.isfinite(gains)
        for column, limit in enumerate(at):
            beyond = np.flatnonzero(own > limit)
            after = int(beyond[0]) if len(beyond) else len(own) - 1
            if not defined[: after + 1].all():
                continue
            if not len(beyond):
                values[row, column] = gains[-1]
                continue
            share = (limit - own[after - 1]) / (own[after] - own[after - 1])
            values[row, column] = gains[after - 1] + share * (gains[after] - gains[after - 1])
    return values


def curves_of(trials: Trials, plan: Plan) -> tuple[tuple[Curve, ...], tuple[Contest, ...]]:
    """Compare all methods of a plan, and each with random directions, at the plan's damages."""
    grids = {
        method: [edit_arm(plan, method, strength) for strength in sorted(plan.strengths_of(method))]
        for method in plan.methods
    }
    values = {method: _values(trials, arms, plan.damages) for method, arms in grids.items()}
    curves = []
    for method, arms in grids.items():
        others = [replace(arm, control=RANDOM) for arm in arms]
        random, random_reached = None, None
        if all(other in trials.arms for other in others):
            random = values[method] - _values(trials, others, plan.damages)
            random_reached = _reached(trials, others, plan.damages)
        curves.append(
            Curve(
                method=method,
                strengths=tuple(arm.strength for arm in arms),
                damages=plan.damages,
                damage=tuple(trials.mean_damage(arm) for arm in arms),
                score=tuple(score_of(trials.per_item(arm, trials.headline)).mean for arm in arms),
                reached=_reached(trials, arms, plan.damages),
                random_reached=random_reached,
                effects=_effects(values[method]),
                over_random=None if random is None else _effects(random),
            )
        )
    contests = tuple(
        Contest(first=first, second=second, effects=_effects(values[first] - values[second]))
        for first, second in combinations(values, 2)
    )
    return tuple(curves), contests


def _reached(trials: Trials, arms: Sequence[Arm], damages: Sequence[float]) -> tuple[float, ...]:
    """The share of the items whose damage passes each stated one at some strength."""
    damage = np.stack([trials.per_item(arm, DAMAGE) for arm in arms], axis=1).max(1)
    # Undefined where the object covers the image: no background shows a damage.
    damage = damage[np.isfinite(damage)]
    return tuple(float((damage > limit).mean()) if len(damage) else np.nan for limit in damages)


def _values(trials: Trials, arms: Sequence[Arm], damages: Sequence[float]) -> Array:
    """Effects of every item at the stated damages, and its area; items x (damages + 1)."""
    before = trials.quality(NO_EDIT)
    damage = np.stack([trials.per_item(arm, DAMAGE) for arm in arms], axis=1)
    effect = np.stack([trials.quality(arm) - before for arm in arms], axis=1)
    grid = np.linspace(0, damages[-1], _POINTS)
    area = np.asarray(np.trapezoid(curve_values(damage, effect, grid), grid, axis=1)) / damages[-1]
    return np.column_stack([curve_values(damage, effect, np.array(damages)), area])


def _effects(values: Array) -> tuple[tuple[float, float, float], ...]:
    return tuple(astuple(effect_of(column)) for column in values.T)


def turned(trials: Trials, method: str, most_damage: float) -> bool:
    """Whether a method's score no longer rises with its strength, or its damage passes a limit."""
    edits = sorted(
        (arm for arm in trials.arms if (arm.method, arm.control) == (method, EDIT)),
        key=lambda arm: arm.strength,
    )
    # An undefined score belongs to images that are destroyed.
    quality = [np.nan_to_num(score_of(trials.quality(arm)).mean, nan=-np.inf) for arm in edits]
    if score_of(trials.per_item(edits[-1], DAMAGE)).mean > most_damage:
        return True
    return len(quality) > 1 and not quality[-1] > max(quality[:-1])
