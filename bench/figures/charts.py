"""Charts for the report: the colours of heat maps, and line charts as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from bench.figures.images import cividis
from probes.bootstrap import Score

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 168, 14, 34


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: points (step counted from 1, score), or one score that holds at every step."""

    name: str
    style: str
    """A class of the style sheet, which sets colour and dashes."""
    points: Sequence[tuple[int, Score]]


def heat(value: float, low: float, high: float) -> tuple[str, str]:
    """(background, text) colours of a value between ``low`` (dark) and ``high`` (bright)."""
    if not np.isfinite(value):
        return "transparent", "inherit"
    at = 0.0 if high == low else float(np.clip((value - low) / (high - low), 0, 1))
    red, green, blue = (round(float(channel)) for channel in cividis(at))
    return f"rgb({red} {green} {blue})", "#111" if at > 0.55 else "#fff"


def line_chart(lines: Sequence[Line], steps: Sequence[int], label: str) -> Markup:
    """Draw curves with interval bands; each curve's name stands at its end."""
    values = [
        value
        for line in lines
        for _, score in line.points
        for value in (score.low, score.high, score.mean)
        if np.isfinite(value)
    ]
    low, high = min(values), max(values)
    pad = (high - low or 1.0) * 0.04
    low, high = low - pad, high + pad
    first, last = min(steps), max(steps)

    def x(step: float) -> float:
        return _LEFT + (step - first) / max(last - first, 1) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{Markup.escape(label)}">']
    right = WIDTH - _RIGHT
    for tick in _ticks(low, high):
        ends = f'x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"'
        parts.append(f'<line class="grid" {ends}/>')
        parts.append(_text("tick", _LEFT - 6, f"{y(tick) + 4:.1f}", f"{tick:g}", "end"))
    for step in steps:
        parts.append(_text("tick", f"{x(step):.1f}", HEIGHT - _BOTTOM + 16, str(step), "middle"))
    middle = f"{(_LEFT + right) / 2:.0f}"
    parts.append(_text("tick", middle, HEIGHT - 4, "denoising step", "middle"))
    names = []
    for line in lines:
        points = [(step, score) for step, score in line.points if np.isfinite(score.mean)]
        if not points:
            continue
        if len(points) == 1:
            points = [(first, points[0][1]), (last, points[0][1])]
        upper = [f"{x(step):.1f},{y(score.high):.1f}" for step, score in points]
        lower = [f"{x(step):.1f},{y(score.low):.1f}" for step, score in reversed(points)]
        means = [f"{x(step):.1f},{y(score.mean):.1f}" for step, score in points]
        parts.append(f'<polygon class="band {line.style}" points="{" ".join(upper + lower)}"/>')
        parts.append(f'<polyline class="curve {line.style}" points="{" ".join(means)}"/>')
        names.append((y(points[-1][1].mean), line))
    for height, line in _spread(names):
        parts.append(_text(f"name {line.style}", right + 8, f"{height + 4:.1f}", line.name))
    parts.append("</svg>")
    return Markup("".join(parts))


def _text(style: str, x: object, y: object, text: str, anchor: str | None = None) -> str:
    end = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{style}" x="{x}" y="{y}"{end}>{Markup.escape(text)}</text>'


def _spread(names: list[tuple[float, Line]], gap: float = 14.0) -> list[tuple[float, Line]]:
    """Move names apart so that none covers another, and keep them inside the chart.

    Takes and returns (height, line).
    """
    placed: list[tuple[float, Line]] = []
    for height, line in sorted(names, key=lambda pair: pair[0]):
        placed.append((max(height, placed[-1][0] + gap) if placed else max(height, _TOP), line))
    bottom = float(HEIGHT - _BOTTOM)
    if not placed or placed[-1][0] <= bottom:
        return placed
    raised: list[tuple[float, Line]] = []
    for height, line in reversed(placed):
        bottom = min(height, bottom)
        raised.append((bottom, line))
        bottom -= gap
    return raised[::-1]


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    size = 10.0 ** np.floor(np.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    return [round(float(tick), 10) for tick in np.arange(np.ceil(low / step) * step, high, step)]
