"""Curves of several models along the noise level, one panel each, and a sheet of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from bench.figures.images import Bytes, image_grid, image_of
from bench.figures.plots import import_extra
from probes.bootstrap import Array, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#8a6d00", "#55565c")
_DASHES = {"noise": "-", "flow": "--"}
_COLUMNS = 2
_LONG = 24
"""Letters of a name from which on three columns of a legend do not fit below a panel."""
_MARGIN = 0.3
_TILE, _GAP, _LEFT, _TOP = 96, 3, 170, 8


@dataclass(frozen=True, slots=True)
class LevelLine:
    """One curve: log-SNR against scores with their intervals."""

    name: str
    levels: Sequence[float]
    scores: Sequence[Score]
    style: str = "noise"
    """A key of the kinds of lines: the objective of a model."""


@dataclass(frozen=True, slots=True)
class LevelPanel:
    """Curves of one measure."""

    title: str
    measure: str
    lines: Sequence[LevelLine]
    ticks: Mapping[float, str] | None = None
    """Labels of the axis, where they are not its numbers."""


def draw_levels(panels: Sequence[LevelPanel]) -> Figure:
    """Draw panels in two columns, each with its legend; bands are 95 % intervals."""
    pyplot = import_extra("matplotlib.pyplot")
    rows = -(-len(panels) // _COLUMNS)
    figure: Figure
    figure, axes = pyplot.subplots(
        rows, _COLUMNS, figsize=(11, 4.6 * rows), layout="constrained", squeeze=False
    )
    # Otherwise a notebook shows the figure twice, and pyplot keeps it forever.
    pyplot.close(figure)
    for panel, ax in zip(panels, axes.flat, strict=False):
        for number, line in enumerate(panel.lines):
            colour = _COLOURS[number % len(_COLOURS)]
            lows, highs = ([getattr(s, end) for s in line.scores] for end in ("low", "high"))
            ax.fill_between(line.levels, lows, highs, color=colour, alpha=0.12, linewidth=0)
            means = [score.mean for score in line.scores]
            dash = _DASHES.get(line.style, ":")
            ax.plot(line.levels, means, color=colour, linestyle=dash, label=line.name)
        ax.set(title=panel.title, xlabel="log-SNR (noise to image)", ylabel=panel.measure)
        ax.tick_params(labelsize=8)
        if panel.ticks:
            ax.set_xticks(list(panel.ticks), list(panel.ticks.values()))
        # Below the curves, which it would cover.
        longest = max(len(line.name) for line in panel.lines)
        ax.legend(
            fontsize=7,
            frameon=False,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.13),
            ncols=3 if longest < _LONG else 2,
        )
        ax.set_xlim(*_common(panel))
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    return figure


def _common(panel: LevelPanel) -> tuple[float, float]:
    """Return the range in which two or more curves lie."""
    ends = [(min(line.levels), max(line.levels)) for line in panel.lines]
    lows, highs = sorted(low for low, _ in ends), sorted(high for _, high in ends)
    second = min(1, len(ends) - 1)
    return lows[second] - _MARGIN, highs[-1 - second] + _MARGIN


def scenes_sheet(images: Mapping[str, Sequence[Bytes]]) -> Image.Image:
    """Arrange the images of the same items: a row per model, a column per item."""
    rows = [[image_of(image, _TILE) for image in of_model] for of_model in images.values()]
    return image_grid(rows, _GAP, (_LEFT, _TOP, _TOP, _TOP), names=list(images))


def lines_of(levels: Sequence[float], scores: Array) -> tuple[Sequence[float], list[Score]]:
    """Return the finite levels and the mean scores there; ``scores`` is levels x images."""
    from math import isfinite

    from probes.bootstrap import score_of

    kept = [(level, row) for level, row in zip(levels, scores, strict=True) if isfinite(level)]
    return [level for level, _ in kept], [score_of(row) for _, row in kept]
