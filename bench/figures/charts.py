"""Charts of the pages: Vega-Lite specifications of curves, their SVG, and the colours of heat maps.

Colours are variables of the style sheet, so that one chart serves a light and a dark page. Altair
and its converter are imported when the first chart is drawn: they take a second to start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from markupsafe import Markup

from bench.figures.images import cividis
from probes.bootstrap import Score

WIDTH, HEIGHT = 640, 300
STEP, NOISE = "step", "log_snr"
"""The fields along which curves are drawn."""
AXES = {STEP: "denoising step", NOISE: "log-SNR (noise on the left)"}
CHOSEN = "chosen"
"""The chart's parameter that marks a step; 0 marks none."""
DARK_TEXT_ABOVE = 0.47
"""The place in the colours of heat maps above which black text has more contrast than white."""
_FONT = "system-ui, sans-serif"


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: points (step counted from 1, score), or one score that holds at every step."""

    name: str
    style: str
    """A name in ``STYLES``."""
    points: Sequence[tuple[int, Score]]
    log_snr: Mapping[int, float | None] | None = None
    """Of its own steps; None where all curves of a chart have the same."""


STYLES: dict[str, tuple[str, tuple[int, ...], float]] = {
    "trained": ("--trained", (1, 0), 3.0),
    "both": ("--both", (9, 3), 3.0),
    "permuted": ("--permuted", (9, 3, 2, 3), 2.0),
    "latent": ("--latent", (2, 3), 2.0),
    "clean": ("--clean", (6, 2), 2.0),
    "random": ("--random", (7, 4), 2.0),
    "position": ("--flat", (4, 3), 2.0),
    "mean": ("--flat", (1, 4), 2.0),
}
"""Style of a curve -> variable of its colour, dashes in pixels, width."""


def heat(value: float, low: float, high: float) -> tuple[str, str]:
    """(background, text) colours of a value between ``low`` (dark) and ``high`` (bright)."""
    if not np.isfinite(value):
        return "transparent", "inherit"
    at = 0.0 if high == low else float(np.clip((value - low) / (high - low), 0, 1))
    red, green, blue = (round(float(channel)) for channel in cividis(at))
    return f"rgb({red} {green} {blue})", "#000" if at > DARK_TEXT_ABOVE else "#fff"


def curve_chart(
    lines: Sequence[Line],
    steps: Sequence[int],
    log_snr: Sequence[float | None],
    measure: str,
    along: str = STEP,
    label: str | None = None,
) -> dict[str, Any]:
    """Return the Vega-Lite specification of curves with interval bands.

    ``log_snr`` has a value per step, None for pure noise; such a step is left out along it.
    ``label`` is the chart's accessible name, by default of the measure and the axis.
    """
    import altair as alt

    rows = _rows(lines, dict(zip(steps, log_snr, strict=True)), along)
    names = [line.name for line in lines]
    styles = [STYLES[line.style] for line in lines]
    axis = alt.Axis(values=list(steps), format="d") if along == STEP else alt.Axis()
    x = alt.X(along, type="quantitative", title=AXES[along], axis=axis).scale(
        nice=False, zero=False, padding=6
    )

    def y(field: str) -> alt.Y:
        return alt.Y(field, type="quantitative", title=measure).scale(zero=False)

    def of(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=names, range=list(values))

    tooltip = [
        alt.Tooltip(field, type="nominal", title=title)
        for field, title in (("curve", "curve"), ("at", "step"), ("score", measure))
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=x,
        color=alt.Color("curve", type="nominal", legend=None).scale(
            domain=names, range=[f"var({variable})" for variable, *_ in styles]
        ),
    )
    band = base.mark_area(opacity=0.12, aria=False).encode(y=y("low"), y2="high")
    line = base.mark_line(aria=False).encode(
        y=y("mean"),
        strokeDash=alt.StrokeDash(
            "curve", type="nominal", legend=None, scale=of([dash for _, dash, _ in styles])
        ),
        strokeWidth=alt.StrokeWidth("width", type="quantitative", scale=None, legend=None),
    )
    points = base.mark_point(size=140, filled=True, opacity=0, aria=False).encode(
        y=y("mean"), tooltip=tooltip
    )
    places = _positions(steps, log_snr, along)
    mark = (
        alt.Chart(alt.InlineData(values=places))
        .mark_rule(color="var(--fg)", strokeDash=[3, 3], aria=False)
        .encode(
            x=x,
            opacity=alt.condition(f"datum.step == {CHOSEN}", alt.value(1), alt.value(0)),
        )
    )
    layers = [band, *([mark] if places else []), line, points]
    chart = alt.layer(*layers).add_params(alt.param(name=CHOSEN, value=0))
    spec = chart.properties(width=WIDTH, height=HEIGHT).to_dict(validate=False)
    return styled(spec, label or f"{measure} by {AXES[along]}")


def legend(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Names, colours and dashes of curves, for a legend outside the chart."""
    return [
        {"name": line.name, "colour": colour, "dashes": dashes, "width": width}
        for line in lines
        for colour, dashes, width in [STYLES[line.style]]
    ]


def _rows(
    lines: Sequence[Line], noise: dict[int, float | None], along: str
) -> list[dict[str, Any]]:
    rows = []
    for line in lines:
        levels = noise if line.log_snr is None else line.log_snr
        points = [(step, score) for step, score in line.points if np.isfinite(score.mean)]
        if len(points) == 1:
            points = [(step, points[0][1]) for step in levels]
        for step, score in points:
            place = step if along == STEP else levels[step]
            if place is None:
                continue
            at = str(step) if levels[step] is None else f"{step}, log-SNR {levels[step]:.2f}"
            rows.append(
                {
                    "curve": line.name,
                    "width": STYLES[line.style][2],
                    STEP: step,
                    along: place,
                    "at": at,
                    "score": str(score),
                }
                | {name: _finite(getattr(score, name)) for name in ("mean", "low", "high")}
            )
    return rows


def _positions(
    steps: Sequence[int], log_snr: Sequence[float | None], along: str
) -> list[dict[str, Any]]:
    places = steps if along == STEP else log_snr
    return [
        {STEP: step, along: place}
        for step, place in zip(steps, places, strict=True)
        if place is not None
    ]


def _finite(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None


def styled(spec: dict[str, Any], label: str) -> dict[str, Any]:
    """Name a chart, and leave its colours and fonts to the page."""
    soft = {"labelColor": "var(--soft)", "titleColor": "var(--soft)", "titleFontWeight": "normal"}
    lines = {"gridColor": "var(--line)", "domainColor": "var(--line)", "tickColor": "var(--line)"}
    # Vega names the element that it draws into by the description.
    spec["description"] = label
    spec["config"] = {
        "background": "transparent",
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {"labelFontSize": 12, "titleFontSize": 12, **soft, **lines},
    }
    return spec


def svg(spec: dict[str, Any], label: str) -> Markup:
    """Draw a chart as an image for print and for readers without scripts."""
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(spec)
    _, _, rest = drawn.partition("<svg ")
    return Markup(f'<svg role="img" aria-label="{Markup.escape(label)}" ') + Markup(rest)


@lru_cache(maxsize=1)
def drawing_script() -> Markup:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which defines ``vegaEmbed``."""
    import vl_convert

    return Markup(
        "(() => {\n" + vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;") + "\n})();"
    )
