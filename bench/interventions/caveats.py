"""Warnings about an intervention experiment, which are printed before any score."""

from __future__ import annotations

from math import isnan

from bench.interventions.arms import NULL
from bench.interventions.records import Curve, Summary
from probes.probe_set import PERMUTED

FEW_ITEMS = 6
"""Intervals of fewer items stay within the few scores, and cover the mean too seldom."""


def caveats(summary: Summary) -> list[str]:
    """What a reader has to know before the scores."""
    warnings = []
    if found := edge(summary):
        warnings.append(
            f"the chosen strength {summary.chosen.strength:g} is {found}: a better one may lie "
            "beyond; give others with --strengths"
        )
    open_ends = [text for curve in summary.curves if (text := _open_end(summary, curve))]
    warnings += open_ends
    for method, strength in summary.best_strengths.items():
        end = _end(strength, summary.plan.strengths_of(method))
        if (
            end
            and method != summary.chosen.method
            and not any(text.startswith(f"{method} ") for text in open_ends)
        ):
            warnings.append(f"the best strength of {method}, {strength:g}, is {end}")
    if any(arm.control == PERMUTED for arm in summary.arms) and summary.permutations < 2:
        warnings.append(
            "the control permuted is of one permutation of the labels, whose variation is not in "
            "its interval; --shifts 2 or more take several in turn"
        )
    if len(summary.test_items) < FEW_ITEMS:
        warnings.append(
            f"{len(summary.test_items)} test items: intervals of so few are too narrow; give "
            f"--items {FEW_ITEMS} or more"
        )
    for scores in (arm.scores for arm in summary.arms if arm.control == NULL):
        shifted, original = scores[summary.headline], scores[summary.original]
        if isnan(shifted[0]) or shifted == original:
            warnings.append(
                f"degenerate labels: moving the object does not change its {summary.task}, so "
                "there is nothing to edit; check the labeler"
            )
    return warnings


def _open_end(summary: Summary, curve: Curve) -> str:
    """Say that a curve still rises at its end and ends before the last stated damage."""
    sign = 1 if summary.higher_is_better else -1
    scores = [sign * score for score in curve.score]
    if len(scores) < 2 or max(scores) > scores[-1] or curve.damage[-1] > curve.damages[-1]:
        return ""
    return (
        f"{curve.method} is best at the strongest tried, {curve.strengths[-1]:g}, whose damage "
        f"{curve.damage[-1]:.3f} is below {curve.damages[-1]:g}: its curve ends before it turns"
    )


def edge(summary: Summary) -> str:
    """The end of the strengths that was chosen; "" inside, or where there was no choice."""
    return _end(summary.chosen.strength, summary.plan.strengths_of(summary.chosen.method))


def _end(strength: float, strengths: tuple[float, ...]) -> str:
    if len(set(strengths)) > 1:
        for name, end in (("strongest", max(strengths)), ("weakest", min(strengths))):
            if strength == end:
                return f"the {name} tried"
    return ""
