"""The tables and the claim of a finished intervention experiment."""

from __future__ import annotations

from math import isnan
from pathlib import Path

from tabulate import tabulate

from bench.interventions.arms import CONTROLNET, CONTROLS, EDIT, NULL, UNMOVED
from bench.interventions.caveats import caveats, edge
from bench.interventions.records import (
    AREA_RATIO,
    DAMAGE,
    ArmRecord,
    Interval,
    Summary,
)
from probes.bootstrap import Score
from probes.published_edit import PUBLISHED

LEAST_ITEMS = 60
"""Of fewer items the smallest visible gain is not printed: they show it with less power."""
LABELS = {
    "weights": "along the weights of the ridge probe",
    "pattern": "along the covariance pattern of the ridge probe",
    "ridge-adam": "Adam on the loss of the ridge probe; not the paper's method",
    PUBLISHED: "the paper's probes and the paper's edit",
    CONTROLNET: "a ControlNet that is shown the target, in both halves of all steps",
}
"""What each method is, in words."""


def rows(summary: Summary) -> list[dict[str, str]]:
    """Return the table: one row per edit, with its gains over its controls."""
    extra = [
        name
        for name in summary.arms[0].scores
        if name.startswith(("rmse_shifted", "spearman_")) and name != summary.headline
    ]
    table = []
    for arm in summary.arms:
        if arm.control not in (EDIT, NULL):
            continue
        row = {
            "method": arm.method if arm.control == EDIT else "none",
            "strength": f"{arm.strength:g}",
        }
        for name in (summary.headline, summary.original, *extra):
            row[_words(name)] = f"{arm.scores[name][0]:.3f}"
        row["damage"] = f"{arm.scores[DAMAGE][0]:.3f}"
        row["area ratio"] = f"{arm.scores[AREA_RATIO][0]:.2f}"
        for control in (NULL, *CONTROLS, UNMOVED):
            gain = (arm.gains or {}).get(control)
            row[f"gain {_over(control)}"] = str(Score(*gain)) if gain else ""
        table.append(row)
    return [
        {name: value for name, value in row.items() if any(other[name] for other in table)}
        for row in table
    ]


def curve_rows(summary: Summary) -> list[dict[str, str]]:
    """Return the table of methods at equal damage; empty without curves."""
    table = []
    for curve in summary.curves:
        row = {
            "method": curve.method,
            "strengths": _span(curve.strengths),
            "damage": f"{max(curve.damage):.3f}",
        }
        row |= _at(curve.damages, curve.effects, "gain")
        row |= _reach("reach", curve.damages, curve.reached)
        if curve.over_random:
            row |= _at(curve.damages, curve.over_random, "over random")
            row |= _reach("random reach", curve.damages, curve.random_reached)
        table.append(row)
    names = list(dict.fromkeys(name for row in table for name in row))
    return [{name: row.get(name, "") for name in names} for row in table]


def contest_rows(summary: Summary) -> list[dict[str, str]]:
    """Return the table of differences between methods at equal damage."""
    return [
        {"methods": f"{contest.first} minus {contest.second}"}
        | _at(summary.plan.damages, contest.effects, "gain")
        for contest in summary.contests
    ]


def _at(damages: tuple[float, ...], effects: tuple[Interval, ...], what: str) -> dict[str, str]:
    heads = [*(f"{what} at {damage:g}" for damage in damages), f"{what}, mean to {damages[-1]:g}"]
    return {head: str(Score(*effect)) for head, effect in zip(heads, effects, strict=True)}


def _reach(
    what: str, damages: tuple[float, ...], shares: tuple[float, ...] | None
) -> dict[str, str]:
    return {
        f"{what} {damage:g}": f"{share:.0%}" if not isnan(share) else ""
        for damage, share in zip(damages, shares or (), strict=bool(shares))
    }


def _span(strengths: tuple[float, ...]) -> str:
    ends = f"{strengths[0]:g}", f"{strengths[-1]:g}"
    return ends[0] if len(strengths) == 1 else " to ".join(ends)


def claim(summary: Summary) -> str:
    """State in one sentence what the chosen edit did on the test items."""
    arm = summary.chosen_arm
    chosen_on = (
        f"chosen on {len(summary.choose_items)} training items"
        if summary.choose_items
        else "best of these items"
    )
    if end := edge(summary):
        chosen_on += f", {end}"
    gains = ", ".join(f"{_over(name)} {Score(*gain)}" for name, gain in (arm.gains or {}).items())
    return (
        f"{arm.method} at strength {arm.strength:g} ({chosen_on}): "
        f"{_words(summary.headline)} {Score(*arm.scores[summary.headline])} "
        f"on {len(summary.test_items)} test items; gain {gains}; "
        f"damage {Score(*arm.scores[DAMAGE])}"
    )


def nulls(summary: Summary) -> list[str]:
    """Name the gains over controls that were not seen, and what would have been seen.

    They are of every method at the strength whose controls were all run.
    """
    sentences = []
    for arm in best_arms(summary):
        for name, gain in (arm.gains or {}).items():
            if gain[1] <= 0 <= gain[2]:
                sentences.append(
                    f"{arm.method} at strength {arm.strength:g}: no gain {_over(name)} was seen "
                    f"({Score(*gain)}){_visible(summary, arm, name)}"
                )
    return sentences


def by_permutation(summary: Summary) -> list[str]:
    """State the gain over each permutation of the labels, of the methods of :func:`nulls`."""
    return [
        f"{arm.method} at strength {arm.strength:g}: gain over permuted, permutation by "
        f"permutation: {', '.join(f'{gain:.3f}' for gain in arm.gains_by_permutation)}; "
        "its interval includes their variation"
        for arm in best_arms(summary)
        if arm.gains_by_permutation
    ]


def _visible(summary: Summary, arm: ArmRecord, control: str) -> str:
    """What gain the items would have shown; "" for few items."""
    n = len(summary.test_items)
    if n < LEAST_ITEMS:
        return ""
    least = (arm.visible or {}).get(control, float("nan"))
    return f"; {n} items show a gain of {least:.3f} with 80 % power"


def best_arms(summary: Summary) -> list[ArmRecord]:
    """Return of each method the edit whose controls were all run.

    Summaries of earlier versions do not name it: it is the one with the most controls.
    """
    if strengths := summary.best_strengths:
        return [arm for arm in summary.arms if arm.gains and arm.strength == strengths[arm.method]]
    best: dict[str, ArmRecord] = {}
    for arm in summary.arms:
        known = best.get(arm.method)
        if arm.gains and (known is None or len(arm.gains) > len(known.gains or {})):
            best[arm.method] = arm
    return list(best.values())


def intervals_line(summary: Summary) -> str:
    """State how the intervals of the table are to be read."""
    comparisons = sum(len(arm.gains or {}) for arm in summary.arms)
    return (
        "gains are paired over items, above zero the edit is better; "
        f"95 % intervals, {comparisons} of them in the table: the claim is the chosen row's"
    )


def curves_line(summary: Summary) -> str:
    """State how the table of equal damage is to be read."""
    return (
        "gain: over no edit, where the curve of an item's trials over strengths passes the damage "
        "(mean absolute change of background pixels); a curve that ends before keeps its last "
        "gain, and a method of one strength is a straight line from no edit; reach: share of the "
        "items whose damage passes the stated one at some strength"
    )


def times_line(summary: Summary) -> str:
    """State the time per trial of each method."""
    times = ", ".join(f"{name} {took:.2f}" for name, took in summary.seconds_by_method.items())
    return f"seconds per trial: {times}" if times else ""


def print_summary(summary: Summary, folder: Path) -> None:
    """Print the tables and the claim."""
    plan = summary.plan
    steps = ", ".join(map(str, plan.steps))
    for caveat in caveats(summary):
        print(f"{caveat}\n")
    target = "" if plan.name == plan.task else f" ({plan.name})"
    print(f"{summary.task}{target}: edits of {', '.join(plan.layers)} at steps {steps}")
    for name in plan.methods:
        print(f"  {name}: {LABELS[name]}")
    print(tabulate(rows(summary), headers="keys", disable_numparse=True))
    for sentence in (*nulls(summary), *by_permutation(summary)):
        print(sentence)
    if summary.curves:
        print("\nat equal damage")
        print(tabulate(curve_rows(summary), headers="keys", disable_numparse=True))
        if summary.contests:
            print(tabulate(contest_rows(summary), headers="keys", disable_numparse=True))
        print(curves_line(summary))
    print(f"\n{claim(summary)}")
    seconds = f"{summary.seconds_per_trial:.2f} s per trial"
    print(f"{intervals_line(summary)}. {seconds}. Files: {folder}")
    if times := times_line(summary):
        print(times)


def _words(score: str) -> str:
    return score.replace("_", " ")


def _over(control: str) -> str:
    return f"over {'no edit' if control == NULL else control}"
