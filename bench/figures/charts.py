"""Charts for the report: heat-map colours and a line chart as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from bench.figures.images import CIVIDIS
from probes.bootstrap import Score

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 168, 14, 34


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: points (step counted from 1, score), or a single score that holds at every step."""

    name: str
    style: str
    """A class of the style sheet: colour and dashes."""
    points: Sequence[tuple[int, Score]]


def heat(value: float, low: float, high: float) -> tuple[str, str]:
    """(background, text) colours of a value between ``low`` (dark) and ``high`` (bright)."""
    if not np.isfinite(value):
        return "transparent", "inherit"
    at = 0.0 if high == low else float(np.clip((value - low) / (high - low), 0, 1))
    site = at * (len(CIVIDIS) - 1)
    below = min(int(site), len(CIVIDIS) - 2)
    mixed = CIVIDIS[below] + (CIVIDIS[below + 1] - CIVIDIS[below]) * (site - below)
    red, green, blue = (round(float(channel)) for channel in mixed)
    return f"rgb({red} {green} {blue})", "#111" if at > 0.55 else "#fff"


def line_chart(lines: Sequence[Line], steps: Sequence[int], label: str) -> Markup:
    """Curves with interval bands; every name stands at the end of its curve."""
    ends = [
        end
        for line in lines
        for _, score in line.points
        for end in (score.low, score.high, score.mean)
    ]
    known = [end for end in ends if np.isfinite(end)]
    low, high = min(known), max(known)
    pad = (high - low or 1.0) * 0.04
    low, high = low - pad, high + pad
    first, last = min(steps), max(steps)

    def x(step: float) -> float:
        return _LEFT + (step - first) / max(last - first, 1) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_escaped(label)}">']
    for tick in _ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for step in steps:
        parts.append(
            f'<text class="tick" x="{x(step):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{step}</text>'
        )
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 4}" text-anchor="middle">denoising step</text>'
    )
    names = []
    for line in lines:
        points = [(step, score) for step, score in line.points if np.isfinite(score.mean)]
        if not points:
            continue
        if len(points) == 1:
            points = [(first, points[0][1]), (last, points[0][1])]
        upper = [f"{x(step):.1f},{y(score.high):.1f}" for step, score in points]
        lower = [f"{x(step):.1f},{y(score.low):.1f}" for step, score in reversed(points)]
        middle_line = " ".join(f"{x(step):.1f},{y(score.mean):.1f}" for step, score in points)
        parts.append(f'<polygon class="band {line.style}" points="{" ".join(upper + lower)}"/>')
        parts.append(f'<polyline class="curve {line.style}" points="{middle_line}"/>')
        names.append((y(points[-1][1].mean), line))
    for site, line in _spread(names):
        parts.append(
            f'<text class="name {line.style}" x="{WIDTH - _RIGHT + 8}" y="{site + 4:.1f}">{_escaped(line.name)}</text>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))


def _spread(names: list[tuple[float, Line]], gap: float = 14.0) -> list[tuple[float, Line]]:
    """Move names apart so that none covers another, and keep them inside the chart."""
    placed: list[tuple[float, Line]] = []
    for site, line in sorted(names, key=lambda pair: pair[0]):
        placed.append((max(site, placed[-1][0] + gap) if placed else max(site, _TOP), line))
    excess = placed[-1][0] - (HEIGHT - _BOTTOM) if placed else 0.0
    if excess > 0:
        floor = float(HEIGHT - _BOTTOM)
        raised: list[tuple[float, Line]] = []
        for site, line in reversed(placed):
            floor = min(site, floor)
            raised.append((floor, line))
            floor -= gap
        placed = raised[::-1]
    return placed


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    size = 10.0 ** np.floor(np.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    return [round(float(tick), 10) for tick in np.arange(np.ceil(low / step) * step, high, step)]


def _escaped(text: str) -> str:
    return str(Markup.escape(text))
