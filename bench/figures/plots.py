"""Matplotlib figures of scores by layer and step; they need the extra ``plot``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.errors import UserError
from probes.bootstrap import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
_PANELS_IN_A_ROW = 3
_COLOURS = ("#0072b2", "#009e73", "#8a6d00", "#cc79a7", "#6f4ba3", "#d55e00", "#55565c", "#a3a5ad")
_DASHES = ("-", "--", "-.", ":", (0, (6, 2)), (0, (7, 4)), (0, (4, 3)), (0, (1, 3)), (0, (9, 2)))
"""Nine dashes to eight colours: the first names with the same style are 72 apart."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Scores of one task by layer and step."""

    title: str
    measure: str
    layers: Sequence[str]
    steps: Sequence[int]
    values: NDArray[np.float64]
    """layers x steps."""
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class LinePlot:
    """Scores of one task along the steps, of several curves."""

    title: str
    measure: str
    curves: dict[str, list[tuple[int, Score]]]
    """Name -> (step, score); a single score does not depend on the step."""


def import_extra(name: str) -> Any:
    """Import a module of the extra ``plot``. Raises UserError when it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"{name.partition('.')[0]} is not installed; "
            "install the extra 'plot': pip install 'scenebench[plot]'"
        ) from error


def draw_heat_maps(maps: Sequence[HeatMap]) -> Figure:
    """Draw one panel per task with layers as rows and steps as columns; bright is better."""
    tallest = max(len(panel.layers) for panel in maps)
    figure, axes = _panels(len(maps), max(2.6, 1.1 + 0.2 * tallest))
    for panel, ax in zip(maps, axes, strict=True):
        colours = "cividis" if panel.higher_is_better else "cividis_r"
        image = ax.imshow(panel.values, cmap=colours, aspect="auto")
        ax.set_xticks(range(len(panel.steps)), panel.steps)
        ax.set_yticks(range(len(panel.layers)), panel.layers)
        ax.tick_params(length=0, labelsize=8)
        ax.set(title=panel.title, xlabel="denoising step", ylabel="layer")
        bar = figure.colorbar(image, ax=ax, pad=0.02, fraction=0.06)
        bar.set_label(panel.measure, fontsize=8)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        if not panel.higher_is_better:
            bar.ax.invert_yaxis()
    return figure


def draw_lines(plots: Sequence[LinePlot]) -> Figure:
    """Draw one panel per task with curves along the steps; bands are 95 % intervals."""
    figure, axes = _panels(len(plots), 3.6)
    names = list(dict.fromkeys(name for plot in plots for name in plot.curves))
    drawn = {}
    for plot, ax in zip(plots, axes, strict=True):
        steps = sorted({step for curve in plot.curves.values() for step, _ in curve})
        for name, curve in plot.curves.items():
            number = names.index(name)
            colour, dashes = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
            xs = [step for step, _ in curve] if len(curve) > 1 else [steps[0], steps[-1]]
            scores = [score for _, score in curve] * (1 if len(curve) > 1 else 2)
            means, lows, highs = zip(*((s.mean, s.low, s.high) for s in scores), strict=True)
            ax.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
            (drawn[name],) = ax.plot(xs, means, color=colour, linestyle=dashes)
        ax.set_xticks(steps)
        ax.tick_params(labelsize=8)
        ax.set(title=plot.title, xlabel="denoising step", ylabel=plot.measure)
    figure.legend(
        [drawn[name] for name in names], names, loc="outside lower center", ncols=4, fontsize=8
    )
    return figure


def figure_image(figure: Figure) -> Image.Image:
    """Render a figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return Image.open(stream).convert("RGB")


def _panels(count: int, height: float) -> tuple[Figure, Sequence[Any]]:
    """An empty figure of ``count`` panels of a height in inches, with its axes row by row."""
    pyplot = import_extra("matplotlib.pyplot")
    columns = min(count, _PANELS_IN_A_ROW)
    rows = -(-count // columns)
    size = (4.5 * columns, height * rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    # Otherwise a notebook shows the figure twice, and pyplot keeps it forever.
    pyplot.close(figure)
    for unused in axes.flat[count:]:
        unused.remove()
    return figure, axes.flat[:count]
