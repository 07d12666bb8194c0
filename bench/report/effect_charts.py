"""Charts of an intervention experiment: gain against damage, and gains at equal damage.

Everything in them is read from the summary; nothing is computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from bench.figures.charts import CHOSEN, HEIGHT, STYLES, WIDTH, styled, svg
from bench.interventions.arms import ALL_METHODS, EDIT, NULL, RANDOM
from bench.interventions.records import DAMAGE, ArmRecord, Curve, Interval, Summary
from probes.bootstrap import Score

CONTROLS = {NULL: "no edit", RANDOM: "a random direction"}
"""What gains are over, and its name."""
_ROW = 26
"""Height of a row in pixels."""


@dataclass(frozen=True, slots=True)
class Point:
    """A method at one strength."""

    arm: ArmRecord
    is_chosen: bool
    edge: str
    """The end of the strengths at which the chosen one lies; "" inside."""


def points_of(summary: Summary, method: str) -> list[Point]:
    """The edits of a method by strength, with the one that was chosen.

    The experiment's own choice is stored. Of other methods the chosen strength is the one whose
    controls were all run; where all strengths have the same controls, none is marked.
    """
    arms = sorted(
        (arm for arm in summary.arms if (arm.method, arm.control) == (method, EDIT)),
        key=lambda arm: arm.strength,
    )
    if method == summary.chosen.method:
        chosen = {summary.chosen.strength}
    else:
        most = max((len(arm.gains or {}) for arm in arms), default=0)
        chosen = {arm.strength for arm in arms if len(arm.gains or {}) == most}
    ends = {arms[0].strength: "the weakest tried", arms[-1].strength: "the strongest tried"}
    return [
        Point(
            arm,
            is_chosen := chosen == {arm.strength},
            ends.get(arm.strength, "") if is_chosen and len(arms) > 1 else "",
        )
        for arm in arms
    ]


def edge_lines(summary: Summary) -> list[str]:
    """Sentences on methods whose chosen strength is an end of those tried."""
    return [
        f"{curve.method}: the chosen strength {point.arm.strength:g} is {point.edge}, so a better "
        "one may lie beyond"
        for curve in summary.curves
        for point in points_of(summary, curve.method)
        if point.edge
    ]


def drawn_charts(summary: Summary) -> dict[str, Any] | None:
    """Specifications by control, their images, and a legend; None without curves."""
    if not summary.curves:
        return None
    specs = {
        control: {_CURVES: gain_chart(summary, control), _EQUAL: equal_chart(summary, control)}
        for control in CONTROLS
        if control == NULL or any(curve.over_random for curve in summary.curves)
    }
    return {
        "name": summary.plan.name,
        "controls": {control: CONTROLS[control] for control in specs},
        "specs": specs,
        "images": {kind: svg(spec, spec["description"]) for kind, spec in specs[NULL].items()},
        "titles": _TITLES,
        "legend": [_legend(curve.method) for curve in summary.curves],
        "line": _intervals_line(summary),
    }


_CURVES, _EQUAL = "curves", "equal"
_TITLES = {_CURVES: "gain against damage, over strengths", _EQUAL: "gain at equal damage"}


def gain_chart(summary: Summary, control: str = NULL) -> dict[str, Any]:
    """Gain of the headline score over a control against damage, as a Vega-Lite specification.

    A line per method connects its strengths, from no edit on; whiskers are intervals of the gain.
    """
    import altair as alt

    rows = [row for curve in summary.curves for row in _strength_rows(summary, curve, control)]
    x = alt.X("damage:Q", title="damage (change of background pixels)")
    title = f"gain over {CONTROLS[control]} ({summary.headline.replace('_', ' ')})"

    def y(field: str) -> alt.Y:
        return alt.Y(field, type="quantitative", title=title)

    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, color=_colour(summary))
    points = base.transform_filter("datum.strength > 0")
    layers = [
        alt.Chart(alt.InlineData(values=[{"damage": limit} for limit in summary.plan.damages]))
        .mark_rule(color="var(--fg)", strokeDash=[3, 3], aria=False)
        .encode(x=x),
        _zero(y=alt.datum(0)),
        base.mark_line(aria=False).encode(
            y=y("mean"), order=alt.Order("strength:Q"), strokeDash=_dashes(summary)
        ),
        points.mark_rule(aria=False, opacity=0.6).encode(y=y("low"), y2="high"),
        points.mark_point(filled=True, size=45, opacity=1, aria=False).encode(y=y("mean")),
        points.transform_filter("datum.chosen")
        .mark_point(size=190, strokeWidth=2.5, aria=False)
        .encode(y=y("mean"), color=alt.value("var(--ring)")),
        points.transform_filter("datum.edge != ''")
        .mark_text(text="at the edge", dy=-16, fontSize=12, fontWeight="bold", aria=False)
        .encode(y=y("mean"), color=alt.value("var(--fg)")),
        # The largest marks are the last, so that they catch the pointer.
        points.mark_point(filled=True, size=240, opacity=0, aria=False).encode(
            y=y("mean"), tooltip=_tooltip("method", "strength", "damage", "gain", "visible", "note")
        ),
    ]
    return _finished(layers, HEIGHT, _label(summary, _CURVES, control))


def equal_chart(summary: Summary, control: str = NULL) -> dict[str, Any]:
    """Gains at the stated damages, and their mean up to the last, as a Vega-Lite specification."""
    import altair as alt

    rows = [row for curve in summary.curves for row in _damage_rows(curve, control)]
    order = list(dict.fromkeys(row["row"] for row in sorted(rows, key=lambda row: row["place"])))
    y = alt.Y("row:N", title=None, sort=order, axis=alt.Axis(labelLimit=220))
    title = f"gain over {CONTROLS[control]} at equal damage"

    def x(field: str) -> alt.X:
        return alt.X(field, type="quantitative", title=title, axis=alt.Axis(tickCount=5))

    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y, color=_colour(summary))
    layers = [
        _zero(x=alt.datum(0)),
        base.mark_rule(strokeWidth=2.5, aria=False).encode(x=x("low"), x2="high"),
        base.mark_point(filled=True, size=70, opacity=1, aria=False).encode(
            x=x("mean"), tooltip=_tooltip("method", "at", "gain", "reached")
        ),
    ]
    return _finished(layers, _ROW * len(order), _label(summary, _EQUAL, control))


def _strength_rows(summary: Summary, curve: Curve, control: str) -> Iterator[dict[str, Any]]:
    start = dict.fromkeys(("damage", "mean", "low", "high", "strength"), 0.0)
    yield {"method": curve.method, "chosen": False, "edge": "", **start}
    for point in points_of(summary, curve.method):
        gain = (point.arm.gains or {}).get(control)
        damage = point.arm.scores[DAMAGE]
        if gain is None or not isfinite(gain[0]) or not isfinite(damage[0]):
            continue
        visible = (point.arm.visible or {}).get(control)
        note = "chosen" if point.is_chosen else ""
        yield {
            "method": curve.method,
            "strength": point.arm.strength,
            "damage": damage[0],
            **_columns(gain),
            "damage text": str(Score(*damage)),
            "visible text": "" if visible is None or not isfinite(visible) else f"{visible:.3f}",
            "chosen": point.is_chosen,
            "edge": point.edge,
            "note text": f"{note}: {point.edge}" if point.edge else note,
        }


def _damage_rows(curve: Curve, control: str) -> Iterator[dict[str, Any]]:
    effects = curve.effects if control == NULL else curve.over_random
    names = [f"at {damage:g}" for damage in curve.damages]
    reached = [f"{share:.0%} of the items" for share in curve.reached]
    if control == RANDOM and curve.random_reached:
        reached = [
            f"{words}, {share:.0%} by random directions"
            for words, share in zip(reached, curve.random_reached, strict=True)
        ]
    for place, (at, effect, share) in enumerate(
        zip(
            [*names, f"mean to {curve.damages[-1]:g}"],
            effects or (),
            [*reached, ""],
            strict=bool(effects),
        )
    ):
        if isfinite(effect[0]):
            yield {
                "method": curve.method,
                "row": f"{at}: {curve.method}",
                "place": place,
                "at text": at,
                "reached text": share,
                **_columns(effect),
            }


def _columns(effect: Interval) -> dict[str, Any]:
    """Numbers and text of an interval; JSON has no undefined numbers."""
    finite = [value if isfinite(value) else None for value in effect]
    return dict(zip(("mean", "low", "high"), finite, strict=True)) | {
        "gain text": str(Score(*effect))
    }


def _tooltip(*names: str) -> list[Any]:
    import altair as alt

    titles = {
        "at": "damage",
        "visible": "smallest visible gain",
        "reached": "damage reached by",
        "note": "strength is",
    }
    return [
        alt.Tooltip(
            name if name in ("method", "strength") else f"{name} text",
            type="nominal",
            title=titles.get(name, name),
        )
        for name in names
    ]


def _style(method: str) -> tuple[str, tuple[int, ...], float]:
    """Colour, dashes and width of a method, the same in all experiments."""
    styles = list(STYLES.values())
    return styles[ALL_METHODS.index(method) % len(styles)]


def _legend(method: str) -> dict[str, Any]:
    colour, dashes, width = _style(method)
    return {"name": method, "colour": colour, "dashes": dashes, "width": width}


def _scale(summary: Summary, values: Sequence[Any]) -> Any:
    import altair as alt

    return alt.Scale(domain=[curve.method for curve in summary.curves], range=list(values))


def _colour(summary: Summary) -> Any:
    import altair as alt

    colours = [f"var({_style(curve.method)[0]})" for curve in summary.curves]
    return alt.Color("method:N", legend=None, scale=_scale(summary, colours))


def _dashes(summary: Summary) -> Any:
    import altair as alt

    dashes = [_style(curve.method)[1] for curve in summary.curves]
    return alt.StrokeDash("method:N", legend=None, scale=_scale(summary, dashes))


def _zero(**place: Any) -> Any:
    """A line where there is no gain."""
    import altair as alt

    mark = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color="var(--soft)", aria=False)
    return mark.encode(**place)


def _label(summary: Summary, kind: str, control: str) -> str:
    return f"{summary.plan.name}: {_TITLES[kind]}; gains over {CONTROLS[control]}"


def _finished(layers: Sequence[Any], height: int, label: str) -> dict[str, Any]:
    import altair as alt

    chart = alt.layer(*layers).add_params(alt.param(name=CHOSEN, value=0))
    spec: dict[str, Any] = chart.properties(width=WIDTH, height=height).to_dict(validate=False)
    return styled(spec, label)


def _intervals_line(summary: Summary) -> str:
    """Say how many intervals the charts show, and which of them is claimed."""
    strengths = sum(len(points_of(summary, curve.method)) for curve in summary.curves)
    equal = sum(len(curve.effects) for curve in summary.curves)
    return (
        f"Each chart shows several 95 % intervals ({strengths} over strengths, {equal} at equal "
        "damage), which are not corrected for their number: the claim is the chosen edit's"
    )
