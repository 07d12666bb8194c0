"""The Python interface to a finished run: scores as arrays and data frames, and figures.

    run = read_run("runs/tiny-scenes617-0a1b2c3d")
    run.summary                                 # the best layer at each step, with its controls
    run.cells.query("probe == 'activations'")   # every cell with its scores and intervals
    run.scores("depth").select(layer="up2.1", step=5).values
    run.plot_layers().savefig("layers.png")

Steps are counted from 1. Data frames and figures need the extra ``plot``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.config import Config, nearest
from bench.errors import UserError
from bench.figures.plots import HeatMap, LinePlot, draw_heat_maps, draw_lines, import_extra
from bench.runs.curves import Curve, control_curves, curve
from bench.runs.records import RunRecord
from bench.runs.results import Results, TaskResults, read_results
from bench.steps import number_of, numbers_of
from extract.networks import TRAINED
from probes.probe_set import ACTIVATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_CELL = ("network", "layer", "step", "probe", "draw")
_METRIC_NAMES = {"dice": "Dice", "rmse": "RMSE"}


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one task, cells x metrics x test items, with named axes.

    A small record and not an xarray.DataArray: cells form no grid (kinds of probes differ in their
    layers and steps), so xarray could only mask one long axis, as :meth:`select` does.
    """

    dims: ClassVar[tuple[str, ...]] = ("cell", "metric", "item")
    values: NDArray[np.float64]
    """Shape (cells, metrics, items); nan where a score is undefined."""
    coords: dict[str, NDArray[Any]]
    """``metric`` and ``item`` (ids) along their axes; along ``cell``: ``network``, ``layer``,
    ``step`` (from 1; 0 for baselines without a step), ``probe``, ``draw`` and ``side``: the tokens
    along a side, or text such as ``12x16`` for every cell where a grid is not square."""

    def select(self, **coords: object) -> Scores:
        """The part at these coordinates, such as ``layer="up2.1", step=5, metric="dice"``.

        A list of values takes all of them.

        Raises UserError for a coordinate that does not exist, or when nothing is left.
        """
        masks = [np.ones(size, bool) for size in self.values.shape]
        for name, value in coords.items():
            if name not in self.coords:
                raise UserError(f"there is no coordinate {name!r}{nearest(name, [*self.coords])}")
            axis = self.dims.index(name) if name in self.dims else 0
            several = value if isinstance(value, list | tuple | np.ndarray) else [value]
            masks[axis] &= np.any([self.coords[name] == one for one in several], axis=0)
        if not all(mask.any() for mask in masks):
            chosen = ", ".join(f"{name}={value!r}" for name, value in coords.items())
            raise UserError(f"there are no scores with {chosen}; see .coords for what there is")
        parts = {
            name: values[masks[self.dims.index(name) if name in self.dims else 0]]
            for name, values in self.coords.items()
        }
        return replace(self, values=self.values[np.ix_(*masks)], coords=parts)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    results: Results

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.results.path

    @property
    def config(self) -> Config:
        """The options that the run was made with."""
        return self.results.config

    @property
    def record(self) -> RunRecord:
        """The contents of run.json: tasks, layers, steps, networks, items, time and memory."""
        return self.results.record

    @property
    def cells(self) -> DataFrame:
        """The table cells.csv: one row per cell with every score and its 95 % interval."""
        table = import_extra("pandas").read_csv(self.path / "cells.csv", dtype={"step": "Int64"})
        return table

    @property
    def summary(self) -> DataFrame:
        """One row per task and step: the best layer's score, and the scores of its controls.

        Scores are of the task's headline metric; the layer is chosen on training images.
        """
        rows = []
        for task in self.results.tasks.values():
            controls = control_curves(self.results, task)
            for step, layer, score in curve(self.results, task, TRAINED, ACTIVATIONS):
                row = {"task": task.name, "metric": task.headline, "step": number_of(step)}
                row |= {"layer": layer, "score": score.mean, "low": score.low, "high": score.high}
                for name, points in controls.items():
                    if name != ACTIVATIONS:
                        row[name] = _at(points, step)
                rows.append(row)
        return import_extra("pandas").DataFrame(rows)

    def scores(self, task: str) -> Scores:
        """Every metric of every cell for every test item. Raises UserError for an unknown task."""
        if task not in self.results.tasks:
            raise UserError(f"the run has no task {task!r}{nearest(task, [*self.results.tasks])}")
        scores = self.results.tasks[task]
        coords = {name: np.array([getattr(cell, name) for cell in scores.cells]) for name in _CELL}
        # Numbers if all grids are square, else text.
        coords["side"] = np.array([cell.grid.side for cell in scores.cells])
        # Baselines without a step have step -1 there.
        coords["step"] += 1
        coords["metric"] = np.array(scores.metrics)
        coords["item"] = np.array(self.results.record.test_items)
        return Scores(scores.scores, coords)

    def plot_emergence(self) -> Figure:
        """Draw the best layer's score and its controls along the steps, one panel per task."""
        plots = []
        for task in self.results.tasks.values():
            curves = {
                name: [(number_of(step), score) for step, score in points]
                for name, points in control_curves(self.results, task).items()
            }
            plots.append(LinePlot(task.name, _measure(task), curves))
        return draw_lines(plots)

    def plot_layers(self) -> Figure:
        """Draw the score of every layer at every step, one panel per task; bright is better."""
        steps, layers = self.results.steps, self.results.layers
        maps = []
        for task in self.results.tasks.values():
            values = np.full((len(layers), len(steps)), np.nan)
            for cell in task.where(network=TRAINED, probe=ACTIVATIONS):
                row, column = layers.index(cell.layer), steps.index(cell.step)
                values[row, column] = np.nanmean(task.score(cell))
            numbers = list(numbers_of(steps))
            better = task.higher_is_better[0]
            maps.append(HeatMap(task.name, _measure(task), layers, numbers, values, better))
        return draw_heat_maps(maps)


def read_run(folder: str | Path) -> Run:
    """Read a finished run. Raises UserError for a folder that is none, unfinished or damaged."""
    return Run(read_results(Path(folder)))


def _at(points: Curve, step: int) -> float:
    """A curve's mean score at a step; of a curve with a single score, that one."""
    by_step = {number: score.mean for number, score in points}
    return points[0][1].mean if len(points) == 1 else by_step.get(step, np.nan)


def _measure(task: TaskResults) -> str:
    """The headline metric with its unit and direction."""
    name = _METRIC_NAMES.get(task.headline, task.headline.replace("_", " "))
    unit = f" ({task.unit})" if task.unit else ""
    return f"{name}{unit}, {'higher' if task.higher_is_better[0] else 'lower'} is better"
