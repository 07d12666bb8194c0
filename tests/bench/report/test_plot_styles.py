"""Curves of one plot can be told apart, and many panels stand in rows of three."""

from __future__ import annotations

import numpy as np

from bench.figures.plots import HeatMap, LinePlot, draw_heat_maps, draw_lines
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


def test_four_panels_stand_in_two_rows() -> None:
    panel = HeatMap("task", "Dice", ("up", "down"), (1, 5), np.eye(2), True)
    one, four = draw_heat_maps([panel]), draw_heat_maps([panel] * 4)
    shown = [ax for ax in four.axes if ax.get_title() == "task"]
    assert len(shown) == 4
    assert [ax.get_subplotspec().rowspan.start for ax in shown] == [0, 0, 0, 1]
    assert four.get_figheight() == 2 * one.get_figheight()
    assert four.get_figwidth() == 3 * one.get_figwidth()
