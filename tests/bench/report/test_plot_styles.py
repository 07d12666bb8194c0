"""Curves of one plot can be told apart."""

from __future__ import annotations

from bench.figures.plots import LinePlot, draw_lines
from probes.bootstrap import Score


def test_ten_curves_of_two_tasks_have_ten_styles() -> None:
    points = [(step, Score(0.5, 0.4, 0.6)) for step in (1, 5)]
    names = [f"curve {number}" for number in range(10)]
    plots = [
        LinePlot("maps", "Dice", dict.fromkeys(names[:9], points)),
        LinePlot("images", "Accuracy", dict.fromkeys([names[0], names[9]], points)),
    ]
    lines = draw_lines(plots).legends[0].get_lines()
    assert len(lines) == 10
    styles = {(line.get_color(), str(line._dash_pattern)) for line in lines}
    assert len(styles) == 10
