"""The table and the claim of a finished intervention experiment."""

from __future__ import annotations

from math import isnan
from pathlib import Path

from tabulate import tabulate

from bench.interventions.arms import CONTROLS, EDIT, NULL
from bench.interventions.records import AREA_RATIO, DAMAGE, SHIFTED, Summary
from probes.bootstrap import Score


def rows(summary: Summary) -> list[dict[str, str]]:
    """Return the table: one row per edit, with its gains over its controls."""
    extra = [
        name
        for name in summary.arms[0].scores
        if name.startswith("spearman_") and summary.headline != f"spearman_{SHIFTED}"
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
        for control in (NULL, *CONTROLS):
            gain = (arm.gains or {}).get(control)
            row[f"gain {_over(control)}"] = str(Score(*gain)) if gain else ""
        table.append(row)
    return [
        {name: value for name, value in row.items() if any(other[name] for other in table)}
        for row in table
    ]


def claim(summary: Summary) -> str:
    """State in one sentence what the chosen edit did on the test items."""
    arm = summary.chosen_arm
    chosen_on = (
        f"chosen on {len(summary.choose_items)} training items"
        if summary.choose_items
        else "best of these items"
    )
    if edge := _edge(summary):
        chosen_on += f", {edge}"
    gains = ", ".join(f"{_over(name)} {Score(*gain)}" for name, gain in (arm.gains or {}).items())
    return (
        f"{arm.method} at strength {arm.strength:g} ({chosen_on}): "
        f"{_words(summary.headline)} {Score(*arm.scores[summary.headline])} "
        f"on {len(summary.test_items)} test items; gain {gains}; "
        f"damage {Score(*arm.scores[DAMAGE])}"
    )


def _edge(summary: Summary) -> str:
    """The end of the strengths that was chosen; "" inside, or where there was no choice."""
    strengths = summary.plan.strengths
    if len(set(strengths)) > 1:
        for name, end in (("strongest", max(strengths)), ("weakest", min(strengths))):
            if summary.chosen.strength == end:
                return f"the {name} tried"
    return ""


def caveats(summary: Summary) -> list[str]:
    """Warnings that are printed before any score."""
    warnings = []
    if edge := _edge(summary):
        warnings.append(
            f"the chosen strength {summary.chosen.strength:g} is {edge}: a better one may lie "
            "beyond; give others with --strengths"
        )
    for scores in (arm.scores for arm in summary.arms if arm.control == NULL):
        shifted, original = scores[summary.headline], scores[summary.original]
        if isnan(shifted[0]) or shifted == original:
            warnings.append(
                f"degenerate labels: moving the object does not change its {summary.task}, so "
                "there is nothing to edit; check the labeler"
            )
    return warnings


def intervals_line(summary: Summary) -> str:
    """State how the intervals of the table are to be read."""
    comparisons = sum(len(arm.gains or {}) for arm in summary.arms)
    return (
        "gains are paired over items, above zero the edit is better; "
        f"95 % intervals, {comparisons} of them in the table: the claim is the chosen row's"
    )


def print_summary(summary: Summary, folder: Path) -> None:
    """Print the table and the claim."""
    plan = summary.plan
    steps = ", ".join(map(str, plan.steps))
    for caveat in caveats(summary):
        print(f"{caveat}\n")
    print(f"{summary.task}: edits of {', '.join(plan.layers)} at steps {steps}")
    print(tabulate(rows(summary), headers="keys", disable_numparse=True))
    print(f"\n{claim(summary)}")
    seconds = f"{summary.seconds_per_trial:.2f} s per trial"
    print(f"{intervals_line(summary)}. {seconds}. Files: {folder}")


def _words(score: str) -> str:
    return score.replace("_", " ")


def _over(control: str) -> str:
    return f"over {'no edit' if control == NULL else control}"
