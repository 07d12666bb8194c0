"""Where and when: a map of what can be read, beside a map of what acts.

The cells are the blocks of layers and windows of steps. On the same test images

    reading    the score of the run's probes over the mean score of the probes of permuted labels,
               a mean over the layers and steps of the cell
    acting     the score of an edit in the cell over that of a random direction of the same norm

Their agreement is Spearman's rank correlation of the two maps over cells. Noise of few images
lowers it, and a resample of them lowers it once more, so the percentiles of the bootstrap lie too
low. With r the correlation, l and h its quantiles over resamples of images (which are the same in
both maps), the interval is the hull of the percentile and of the reflected interval, which takes
off that bias (Davison and Hinkley 1997, Bootstrap Methods and their Application, 5.2):

    min(l, 2 r - h) to max(h, 2 r - l)

The levels of l and h are those of Student's t with n - 1 degrees of freedom, times the square root
of n / (n - 1), under the normal distribution (Hesterberg 2015, What Teachers Should Know about the
Bootstrap, 5.3). The cells stay as they are, so the interval says nothing about other networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from scipy.stats import t as student
from tabulate import tabulate

from bench.errors import UserError
from bench.figures.images import save_image
from bench.figures.plots import HeatMap, draw_heat_maps, figure_image, import_extra
from bench.interventions.arms import EDIT, RANDOM
from bench.interventions.config import Plan
from bench.interventions.path import layered_arm
from bench.interventions.records import MAPS, MapRecord, task_folder, write_record
from bench.interventions.reference import metric_of
from bench.interventions.runner import EditableRun, open_probes, run_arms
from bench.registry import plugin
from bench.runs.results import Results
from extract.networks import TRAINED
from extract.taps import layers_by_block
from probes.bootstrap import LEVEL, Array, Score, effect_of, resampled_means, resampling_weights
from probes.probe_set import ACTIVATIONS, PERMUTED

WIDTH = 3
"""Steps of a window, of all steps that the run probed."""
LEAST_ITEMS = 8
"""Of fewer items there is no interval.

In simulations of 12 cells it covers the correlation of the noiseless maps in 95 % of cases or more,
but where the noise of an image is twice the signal between cells in 87 % with 8 items, 92 % with 20
and 96 % with 60, and where it is three times as large in 75 %, 84 % and 95 %.
"""


def windows_of(steps: Sequence[int]) -> list[tuple[int, ...]]:
    """Cut the probed steps (0 to T-1) into windows of ``WIDTH``; the last may be shorter."""
    return [tuple(steps[start : start + WIDTH]) for start in range(0, len(steps), WIDTH)]


@dataclass(frozen=True, slots=True)
class Maps:
    """Both maps of n images, blocks x windows."""

    blocks: Mapping[str, tuple[str, ...]]
    windows: Sequence[tuple[int, ...]]
    reading: Array
    """n x blocks x windows."""
    acting: Array
    """n x blocks x windows."""

    def correlation(self) -> Correlation:
        """Correlate the maps over cells; the interval is over images, nan of fewer than 8."""
        n = len(self.reading)
        (point,) = self._correlations(np.ones((1, n))).tolist()
        drawn = self._correlations(resampling_weights(n))
        drawn = drawn[np.isfinite(drawn)]
        if n < LEAST_ITEMS or not len(drawn):
            return Correlation(Score(point, np.nan, np.nan), np.nan)
        reach = norm.cdf(student.ppf((1 + LEVEL) / 2, n - 1) * np.sqrt(n / (n - 1)))
        low, high = np.quantile(drawn, [1 - reach, reach])
        low, high = min(low, 2 * point - high), max(high, 2 * point - low)
        score = Score(point, max(-1.0, float(low)), min(1.0, float(high)))
        return Correlation(score, float(drawn.mean() - point))

    def _correlations(self, weights: Array) -> Array:
        """The correlation in each draw of images (draws x n); undefined scores are left out."""
        maps = [x.reshape(len(x), -1).T for x in (self.reading, self.acting)]
        return _rank_correlations(*(resampled_means(scores, weights).T for scores in maps))


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's correlation of two maps."""

    score: Score
    bias: float
    """Of the mean resample, in which the noise of the images counts twice; nan as the interval."""

    def __str__(self) -> str:
        """The value with its interval, or why it has none."""
        if np.isfinite(self.bias):
            return f"{self.score}, a resample of the items moves it by {self.bias:+.3f} on average"
        return f"{self.score.mean:.3f}, without an interval (it needs {LEAST_ITEMS} items or more)"


def _rank_correlations(a: Array, b: Array) -> Array:
    """Correlate row by row; nan where fewer than three cells are defined, or all are equal."""
    both = np.isfinite(a) & np.isfinite(b)
    count = both.sum(1, keepdims=True)
    ranks = [rankdata(np.where(both, x, np.nan), axis=1, nan_policy="omit") for x in (a, b)]
    # The ranks of any count of numbers have the mean (count + 1) / 2.
    x, y = (np.where(both, rank - (count + 1) / 2, 0.0) for rank in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.where(count[:, 0] < 3, np.nan, found)


def reading_map(
    results: Results,
    task: str,
    blocks: Mapping[str, tuple[str, ...]],
    windows: Sequence[tuple[int, ...]],
    items: Sequence[str],
) -> Array:
    """Scores of the run's probes over the mean of those of permuted labels.

    The result is items x blocks x windows. Raises UserError for a run without such probes.
    """
    stored, metric = results.tasks[task], metric_of(plugin("task", task)).name
    rows = [results.record.test_items.index(item) for item in items]
    sign = stored.sign(metric)

    def value(layer: str, step: int) -> NDArray[np.float64]:
        fitted, permuted = (
            [
                stored.score(cell, metric)[rows]
                for cell in stored.where(network=TRAINED, layer=layer, step=step, probe=probe)
            ]
            for probe in (ACTIVATIONS, PERMUTED)
        )
        if not (fitted and permuted):
            raise UserError(
                f"{results.path} has too few training items for probes of permuted labels, which "
                "the map of what can be read needs; make a run of more items"
            )
        gain: NDArray[np.float64] = sign * (fitted[0] - np.mean(permuted, axis=0))
        return gain

    table = [
        [
            np.mean([value(layer, step) for layer in layers for step in window], axis=0)
            for window in windows
        ]
        for layers in blocks.values()
    ]
    return np.moveaxis(np.array(table), -1, 0)


def both_maps(
    run: EditableRun, plan: Plan, methods: Sequence[str] | None, strengths: Sequence[float] | None
) -> Maps:
    """Generate the trials of every cell, or read them from disk."""
    blocks, windows = layers_by_block(run.results.layers), windows_of(run.results.steps)
    # Before the trials, which take long: it refuses a run without probes of permuted labels.
    every_item = run.results.record.test_items
    reading = reading_map(run.results, plan.task, blocks, windows, every_item)
    base = layered_arm(run, plan, methods, strengths)
    edits = [
        [replace(base, layers=layers, steps=window) for window in windows]
        for layers in blocks.values()
    ]
    arms = [
        replace(arm, control=control) for row in edits for arm in row for control in (EDIT, RANDOM)
    ]
    probes = open_probes(run, plan.task, arms)
    trials = run_arms(run, probes, "test", plan.items, plan, arms)
    acting = np.array(
        [
            [trials.quality(arm) - trials.quality(replace(arm, control=RANDOM)) for arm in row]
            for row in edits
        ]
    )
    reading = reading[[every_item.index(item.id) for item in trials.items]]
    return Maps(blocks, windows, reading, np.moveaxis(acting, -1, 0))


def print_maps(
    run: EditableRun,
    plan: Plan,
    methods: Sequence[str] | None,
    strengths: Sequence[float] | None,
    figure: Path | None,
) -> None:
    """Print both maps and their correlation, store them, and draw them."""
    if figure:
        # A missing package is refused before the work.
        import_extra("matplotlib.pyplot")
    maps = both_maps(run, plan, methods, strengths)
    base = layered_arm(run, plan, methods, strengths)
    n = len(maps.reading)
    metric = metric_of(plugin("task", plan.task)).name
    spans = [_span(window) for window in maps.windows]
    titles = {
        "reading": f"what can be read: {metric} over permuted labels",
        "acting": f"what acts: {metric} with the target over a random direction",
    }
    print(
        f"{plan.task}, {base.method} at strength {base.strength:g}, {n} test items x {plan.shifts}"
    )
    for name, title in titles.items():
        values = getattr(maps, name)
        table = [
            [block, *(str(effect_of(values[:, row, column])) for column in range(len(spans)))]
            for row, block in enumerate(maps.blocks)
        ]
        print(f"\n{title}")
        print(tabulate(table, headers=["block", *(f"steps {span}" for span in spans)]))
    correlation = maps.correlation()
    cells = len(maps.blocks) * len(spans)
    print(f"\nrank correlation of the two maps over {cells} cells, {n} items: {correlation}")
    record = MapRecord(
        task=plan.task,
        method=base.method,
        strength=base.strength,
        items=n,
        shifts=plan.shifts,
        blocks=tuple(maps.blocks),
        windows=tuple(tuple(step + 1 for step in window) for window in maps.windows),
        reading=_intervals(maps.reading),
        acting=_intervals(maps.acting),
        correlation=astuple(correlation.score),
        correlation_bias=correlation.bias,
    )
    path = task_folder(run.results.path, plan.name) / MAPS
    write_record(record, path)
    print(f"figures in {path}")
    if figure:
        panels = [
            HeatMap(
                title=f"{plan.task}: {title.partition(':')[0]}",
                measure="gain over the control",
                layers=list(maps.blocks),
                steps=spans,  # type: ignore[arg-type]
                values=np.nanmean(getattr(maps, name), axis=0),
                higher_is_better=True,
            )
            for name, title in titles.items()
        ]
        print(f"figure: {save_image(figure_image(draw_heat_maps(panels)), figure)}")


def _intervals(maps: Array) -> tuple[tuple[tuple[float, float, float], ...], ...]:
    return tuple(
        tuple(astuple(effect_of(maps[:, row, column])) for column in range(maps.shape[2]))
        for row in range(maps.shape[1])
    )


def _span(window: Sequence[int]) -> str:
    return f"{window[0] + 1}" if len(window) == 1 else f"{window[0] + 1}-{window[-1] + 1}"
