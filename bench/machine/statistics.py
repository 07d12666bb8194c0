"""Rates of sums, fits, predictions and scores, on made-up activations and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from bench.machine.clock import at_once, usual
from bench.machine.records import AtWidth
from bench.planning.estimate import stored_seconds
from bench.registry import plugin
from datasets.grid import Grid
from datasets.labels import Labels
from engines.cuda_stream import own_device
from probes.accumulate import DRAWS, Accumulator
from probes.eigenbasis import decompose
from probes.moments import Moments
from probes.position import position_columns
from probes.probe_set import (
    ACTIVATIONS,
    EQUAL_WIDTH,
    PERMUTED,
    WITH_POSITION,
    Cell,
    FittedProbe,
    ProbeSet,
)
from probes.readout import Readout
from probes.ridge import Further, Problem, fit_all
from probes.statistics import SufficientStatistics
from probes.task import Task

TASKS = ("saliency", "depth")
_IMAGES = 8
_GRID = Grid(16, 16)
_PIXELS, _LARGE = 64, 256
"""Sides of images: small where their size does not count, and large where it does."""
_NETWORK, _LAYER = "trained", "measured"
_CELLS = 32
_STORED = 3
"""Times that sums are stored."""


@dataclass(frozen=True, slots=True)
class ScoreRates:
    """Seconds per unit of scoring; see the fields of :class:`~bench.machine.records.Machine`."""

    scores: dict[str, float]
    target_pixels: dict[str, float]
    sweep: float


def rates_at_widths(
    widths: Sequence[int], threads: int, device: str, seconds: float
) -> Iterator[AtWidth]:
    """Sums, eigenproblems, fits and predictions at several numbers of channels."""
    for channels in widths:
        yield _at_width(channels, threads, device, seconds / len(widths))


def _at_width(channels: int, threads: int, device: str, seconds: float) -> AtWidth:
    generator = torch.Generator().manual_seed(channels)
    each, where = seconds / 4, own_device(device)
    activation = torch.randn(_IMAGES, _GRID.tokens, channels, generator=generator).to(where)
    tokens = _IMAGES * _GRID.tokens
    sums: list[SufficientStatistics] = []

    def accumulated() -> None:
        sums[:] = [_sums(activation, where)]

    sum_seconds = usual(accumulated, each, device) / tokens
    moments = sums[0].cpu().moments[_NETWORK, _LAYER][0]
    columns = moments.columns
    scatter = moments.scatter[:channels, :channels].contiguous().to(where)
    problem_seconds = at_once(lambda _: _done(decompose(scatter).spectrum), threads, each, device)
    fit_seconds, targets = _fit(moments, channels, threads, where, each)
    probe_set = _probe_set(channels, 1)
    reader = Readout(probe_set, _tasks(), where)
    reading = usual(lambda: reader.update(0, _NETWORK, _LAYER, activation, _GRID), each, device)
    return AtWidth(
        channels=channels,
        columns=columns,
        sum_seconds=sum_seconds,
        read_seconds=reading / tokens,
        eigenproblem_seconds=problem_seconds,
        # The difference of two readings may lie below what can be measured.
        target_seconds=max(fit_seconds - problem_seconds, fit_seconds / 100) / targets,
    )


def _done(result: torch.Tensor) -> float:
    """Wait for a result on a card."""
    return float(result[-1])


def _sums(activation: torch.Tensor, device: torch.device) -> SufficientStatistics:
    accumulator = Accumulator(_tasks(), _permutations(), device)
    accumulator.update(0, _NETWORK, _LAYER, activation, _GRID)
    accumulator.finish(_labels(_PIXELS))
    return accumulator.sums()


def _fit(
    moments: Moments, channels: int, threads: int, device: torch.device, seconds: float
) -> tuple[float, int]:
    """Seconds per set of training folds, and its columns of targets: a site's, as in a run."""
    other = Moments(moments.n, moments.mean, moments.scatter * 1.01)
    folds = [part.to(device) for part in (moments, other)]
    position = position_columns(_GRID).shape[1]
    first = channels + position
    features = torch.arange(channels)
    true = torch.tensor([first, first + 1 + DRAWS])
    further = Further(torch.arange(channels, first), 1.0)
    problems = [Problem(torch.arange(first, moments.columns)), Problem(true, further)]

    def solved(_: int) -> None:
        fits = fit_all(folds, features, problems)
        _done(fits[-1].intercept)

    targets = moments.columns - first + len(true)
    # Two sets of folds for cross-validation, and all folds.
    return at_once(solved, threads, seconds, device.type) / 3, targets


def score_rates(device: str, seconds: float) -> ScoreRates:
    """Scores of many cells on small images, of one cell on large ones, and all thresholds."""
    each = seconds / (2 * len(TASKS) + 1)
    units = _IMAGES * _GRID.tokens
    scores, pixels = {}, {}
    for name in TASKS:
        many, one = (_readout(name, *size, device) for size in ((_CELLS, _PIXELS), (1, _LARGE)))
        scores[name] = usual(many.scores, each, device) / (len(many.cells[name]) * units)
        pixels[name] = usual(_alone(one), each, device) / (_IMAGES * _LARGE**2)
    swept = _readout(TASKS[0], _CELLS, _PIXELS, device)
    sweep = usual(lambda: swept.sweep(_permutations()), each, device)
    return ScoreRates(scores, pixels, sweep / (len(swept.cells[TASKS[0]]) * units))


def storing_seconds(channels: int) -> float:
    """Seconds per byte to write sums and to read them as often as a run does."""
    activation = torch.randn(_IMAGES, _GRID.tokens, channels)
    sums = _sums(activation, torch.device("cpu"))
    # The first time includes what the libraries do once.
    readings = [stored_seconds(sums) for _ in range(_STORED)]
    return min(seconds / size for seconds, size in readings)


def _tasks() -> dict[str, Task]:
    return {name: plugin("task", name) for name in TASKS}


def _permutations() -> list[list[int]]:
    return [[(image + draw) % _IMAGES for image in range(_IMAGES)] for draw in range(1, DRAWS + 1)]


def _labels(side: int) -> Labels:
    generator = torch.Generator().manual_seed(side)
    disparity = torch.randn(_IMAGES, side, side, generator=generator)
    return Labels(disparity, disparity > 0.5)


def _alone(reader: Readout) -> Callable[[], object]:
    """The scores of a block, with the ranks of its labels, which are computed once per block."""

    labels = _labels(_LARGE)

    def scored() -> object:
        reader.finish(labels)
        return reader.scores()

    return scored


def _readout(task: str, steps: int, side: int, device: str) -> Readout:
    """A readout of one task that has read every step."""
    probe_set, where = _probe_set(1, steps, (task,)), own_device(device)
    reader = Readout(probe_set, {task: plugin("task", task)}, where)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        activation = torch.randn(_IMAGES, _GRID.tokens, 1, generator=generator)
        reader.update(step, _NETWORK, _LAYER, activation.to(where), _GRID)
    reader.finish(_labels(side))
    return reader


def _probe_set(channels: int, steps: int, tasks: Sequence[str] = TASKS) -> ProbeSet:
    """Probes as a run has at a site: of activations, with position, of permuted labels."""
    position = position_columns(_GRID).shape[1]
    kinds = [(ACTIVATIONS, 0), (WITH_POSITION, 0), (EQUAL_WIDTH, 0)]
    kinds += [(PERMUTED, draw) for draw in range(1, DRAWS + 1)]
    solved = {}
    for step in range(steps):
        for kind, draw in kinds:
            features = channels + (position if kind == WITH_POSITION else 0)
            solved[Cell(_NETWORK, _LAYER, step, kind, draw, _GRID)] = FittedProbe(
                torch.ones(features, 1, dtype=torch.float64),
                torch.zeros(1, dtype=torch.float64),
                penalty=1.0,
                at_edge=False,
                cv_loss=1.0,
            )
    mean_map = {name: torch.zeros(1, _GRID.rows, _GRID.columns).double() for name in tasks}
    thresholds = {name: dict.fromkeys(solved, 0.5) for name in tasks if name == TASKS[0]}
    return ProbeSet(dict.fromkeys(tasks, solved), mean_map, thresholds)
