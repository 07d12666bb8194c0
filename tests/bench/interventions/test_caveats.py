"""A strength at an end of those tried, and labels that do not move, are told before any score."""

from __future__ import annotations

from math import nan
from pathlib import Path

import pytest

from bench.interventions.arms import EDIT, NULL
from bench.interventions.caveats import caveats
from bench.interventions.config import Plan
from bench.interventions.records import (
    AREA_RATIO,
    DAMAGE,
    SCHEMA,
    SUMMARY,
    ArmRecord,
    ChosenEdit,
    Summary,
    task_folder,
)
from bench.interventions.summary import best_arms, claim, nulls, print_summary
from bench.report.interventions import panel
from probes.probe_set import PERMUTED

LAYERS, STEPS = ("up",), (1,)


def arm(control: str, strength: float, shifted: float, original: float) -> ArmRecord:
    scores = {
        name: (value, value, value)
        for name, value in {
            "dice_shifted": shifted,
            "dice_original": original,
            DAMAGE: 0.0,
            AREA_RATIO: 1.0,
        }.items()
    }
    gains = {NULL: (0.1, 0.0, 0.2)} if control == EDIT else None
    method = NULL if control == NULL else "pattern"
    return ArmRecord(
        method=method,
        control=control,
        strength=strength,
        layers=LAYERS,
        steps=STEPS,
        scores=scores,
        gains=gains,
    )


def summary_of(
    chosen: float, strengths: tuple[float, ...], null: tuple[float, float] = (0.2, 1.0)
) -> Summary:
    plan = Plan(methods=("pattern",), strengths=strengths, layers=LAYERS, steps=STEPS)
    edits = [arm(EDIT, strength, 0.5, 0.3) for strength in strengths]
    return Summary(
        schema=SCHEMA,
        task="saliency",
        headline="dice_shifted",
        higher_is_better=True,
        plan=plan,
        test_items=tuple("abcdef"),
        choose_items=("c", "d"),
        chosen=ChosenEdit(method="pattern", strength=chosen, layers=LAYERS, steps=STEPS),
        choice=(),
        arms=(arm(NULL, 0.0, *null), *edits),
        seconds_per_trial=0.1,
    )


@pytest.mark.parametrize(
    ("chosen", "strengths", "end"),
    [
        (16.0, (1.0, 4.0, 16.0), "strongest"),
        (16.0, (16.0, 4.0, 1.0), "strongest"),
        (0.1, (0.1, 0.4, 1.6), "weakest"),
        (2.0, (1.0, 2.0), "strongest"),
        (4.0, (1.0, 4.0, 16.0), None),
        (4.0, (4.0,), None),
    ],
)
def test_a_strength_at_an_end(
    chosen: float,
    strengths: tuple[float, ...],
    end: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = summary_of(chosen, strengths)
    print_summary(summary, Path("run"))
    printed = capsys.readouterr().out
    if end is None:
        assert caveats(summary) == []
        assert "tried" not in printed
    else:
        (caveat,) = caveats(summary)
        assert caveat.startswith(f"the chosen strength {chosen:g} is the {end} tried")
        assert printed.startswith(caveat)
        assert f"(chosen on 2 training items, the {end} tried)" in claim(summary)


@pytest.mark.parametrize(("best", "end"), [(4.0, "weakest"), (8.0, None), (16.0, "strongest")])
def test_the_best_strength_of_another_method_at_an_end(best: float, end: str | None) -> None:
    summary = summary_of(8.0, (4.0, 8.0, 16.0))
    other = summary.model_copy(update={"best_strengths": {"pattern": 8.0, "weights": best}})
    expected = [f"the best strength of weights, {best:g}, is the {end} tried"] if end else []
    assert caveats(other) == expected


def test_few_items_and_a_single_permutation() -> None:
    summary = summary_of(4.0, (4.0,))
    few = summary.model_copy(update={"test_items": tuple("abcde")})
    (caveat,) = caveats(few)
    assert caveat == "5 test items: intervals of so few are too narrow; give --items 6 or more"
    control = summary.arms[-1].model_copy(update={"control": PERMUTED, "gains": None})
    arms = (*summary.arms, control)
    (caveat,) = caveats(summary.model_copy(update={"arms": arms}))
    assert caveat.startswith("the control permuted is of one permutation of the labels")
    assert not caveats(summary.model_copy(update={"arms": arms, "permutations": 2}))


def test_a_gain_that_few_items_would_show_is_not_stated() -> None:
    summary = summary_of(4.0, (4.0,))
    unsure = summary.arms[-1].model_copy(
        update={"gains": {NULL: (0.1, -0.1, 0.3)}, "visible": {NULL: 0.25}}
    )
    for count in (59, 60):
        items = tuple(map(str, range(count)))
        (said,) = nulls(
            summary.model_copy(update={"arms": (summary.arms[0], unsure), "test_items": items})
        )
        assert said.startswith("pattern at strength 4: no gain over no edit was seen")
        assert ("60 items show a gain of 0.250 with 80 % power" in said) == (count == 60)


@pytest.mark.parametrize("null", [(1.0, 1.0), (0.0, 0.0), (nan, nan)])
def test_labels_that_do_not_move(null: tuple[float, float]) -> None:
    (caveat,) = caveats(summary_of(4.0, (1.0, 4.0, 16.0), null))
    assert caveat.startswith("degenerate labels: moving the object does not change its saliency")


def test_the_report_tells_them_too(tmp_path: Path) -> None:
    summary = summary_of(16.0, (1.0, 4.0, 16.0), (1.0, 1.0))
    folder = task_folder(tmp_path, summary.task)
    folder.mkdir(parents=True)
    (folder / SUMMARY).write_text(summary.text(), encoding="utf-8")
    page = panel(tmp_path) or ""
    for caveat in caveats(summary):
        assert page.index(caveat) < page.index(claim(summary))


def test_what_was_not_seen_is_told_of_the_chosen_strength() -> None:
    """Also where all strengths have equally many controls."""
    summary = summary_of(8.0, (4.0, 8.0, 16.0))
    named = summary.model_copy(update={"best_strengths": {"pattern": 8.0}})
    assert [arm.strength for arm in best_arms(named)] == [8.0]
    # Summaries of earlier versions do not name it.
    assert [arm.strength for arm in best_arms(summary)] == [4.0]
