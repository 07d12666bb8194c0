"""What is said of a finished intervention experiment: its summary on disk, its table and its claim."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.errors import UserError
from bench.interventions.arms import CONTROLS, EDIT, NULL, Arm
from bench.interventions.config import Plan
from bench.interventions.runner import FOLDER, SCHEMA
from bench.interventions.trials import AREA_RATIO, DAMAGE, ORIGINAL, Trials
from probes.bootstrap import Score

SUMMARY, TRIALS, GRID = "summary.json", "trials.csv", "grid"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished experiment."""

    plan: Plan
    chosen: Arm
    """By the training items, or by the test items where there were none to choose on."""
    chosen_on: Trials | None
    test: Trials


def task_folder(run: Path, task: str) -> Path:
    """Where the files of a task's interventions lie."""
    return run / FOLDER / task


def summary(outcome: Outcome) -> dict[str, Any]:
    """All that tables and the report say, as plain data."""
    test, chosen_on = outcome.test, outcome.chosen_on
    return {
        "schema": SCHEMA,
        "task": outcome.plan.task,
        "headline": test.headline,
        "higher_is_better": test.task.metrics[0].higher_is_better,
        "plan": asdict(outcome.plan),
        "test_items": [item.id for item in test.items],
        "choose_items": [item.id for item in chosen_on.items] if chosen_on else [],
        "chosen": {
            "method": outcome.chosen.method,
            "strength": outcome.chosen.strength,
            "layers": list(outcome.chosen.layers),
            "steps": [step + 1 for step in outcome.chosen.steps],
        },
        "choice": chosen_on.summary() if chosen_on else [],
        "arms": test.summary(),
        "seconds_per_trial": test.seconds(),
    }


def read_summary(run: Path, task: str) -> dict[str, Any] | None:
    """The summary of a task's finished interventions; None if there are none of this version.

    Raises UserError when it is damaged: when no table can be made of it.
    """
    path = task_folder(run, task) / SUMMARY
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            return None
        rows(found), claim(found), float(found["seconds_per_trial"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} is damaged ({error}); repeat: python -m bench intervene {run}"
        ) from error
    return found


def rows(found: dict[str, Any]) -> list[dict[str, str]]:
    """The table of a summary: one row per edit, with its gains over the controls that it has."""
    shifted = found["headline"]
    metric = shifted.rpartition("_")[0]
    extra = [
        name
        for name in found["arms"][0]["scores"]
        if name.startswith("spearman_") and metric != "spearman"
    ]
    table = []
    for arm in found["arms"]:
        if arm["control"] not in (EDIT, NULL):
            continue
        scores = arm["scores"]
        row = {
            "method": arm["method"] if arm["control"] == EDIT else "none",
            "strength": f"{arm['strength']:g}",
        }
        for name in (shifted, f"{metric}_{ORIGINAL}", *extra):
            row[name.replace("_", " ")] = f"{scores[name][0]:.3f}"
        row["damage"] = f"{scores[DAMAGE][0]:.3f}"
        row["area ratio"] = f"{scores[AREA_RATIO][0]:.2f}"
        for control in (NULL, *CONTROLS):
            gain = arm.get("gains", {}).get(control)
            row[f"gain over {'no edit' if control == NULL else control}"] = (
                str(Score(*gain)) if gain else ""
            )
        table.append(row)
    return [
        {name: value for name, value in row.items() if any(other[name] for other in table)}
        for row in table
    ]


def claim(found: dict[str, Any]) -> str:
    """One sentence: what the chosen edit did on the test items."""
    chosen = found["chosen"]
    (arm,) = [
        arm
        for arm in found["arms"]
        if (arm["method"], arm["control"], arm["strength"])
        == (chosen["method"], EDIT, chosen["strength"])
    ]
    how = (
        f"chosen on {len(found['choose_items'])} training items"
        if found["choose_items"]
        else "best of these items"
    )
    gains = ", ".join(
        f"over {'no edit' if name == NULL else name} {Score(*gain)}"
        for name, gain in arm["gains"].items()
    )
    return (
        f"{chosen['method']} at strength {chosen['strength']:g} ({how}): {found['headline'].replace('_', ' ')} "
        f"{Score(*arm['scores'][found['headline']])} on {len(found['test_items'])} test items; gain {gains}; "
        f"damage {Score(*arm['scores'][DAMAGE])}"
    )


def print_outcome(found: dict[str, Any], folder: Path) -> None:
    """Print the table and the claim."""
    plan, table = found["plan"], rows(found)
    steps = ", ".join(str(step) for step in plan["steps"])
    print(f"{found['task']}: edits of {', '.join(plan['layers'])} at steps {steps}")
    print(tabulate(table, headers="keys", disable_numparse=True))
    print(f"\n{claim(found)}")
    print(f"{intervals_line(found)}. {found['seconds_per_trial']:.2f} s per trial. Files: {folder}")


def intervals_line(found: dict[str, Any]) -> str:
    """What so many intervals may be read for."""
    comparisons = sum(len(arm.get("gains", {})) for arm in found["arms"])
    return (
        f"gains are paired over items, above zero the edit is better; 95 % intervals, {comparisons} of them in the "
        "table: the claim is the chosen row's"
    )
