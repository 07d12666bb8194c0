"""Null data sets: real activations with the labels of other images, scored as a run scores probes.

A cell is one data set: images are assigned at random to training, folds and test, and labels to
images, so that cells are independent given the pool of images. Every significant effect in them is
a false alarm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from bench.networks import recorded_model
from bench.study import Study
from datasets.grid import Grid
from datasets.labels import Labels, concatenate
from datasets.splits import Block, count_items, draws_of, fold_count
from extract.networks import TRAINED
from probes.accumulate import DRAWS, Accumulator
from probes.bootstrap import Array
from probes.probe_set import ACTIVATIONS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION, ProbeSet
from probes.readout import Readout, best_thresholds
from probes.solve import solve_probe_set
from probes.task import Task


@dataclass(frozen=True, slots=True)
class Pool:
    """Activations and labels of every image, held in memory: a few layers and steps only."""

    activations: dict[tuple[str, int], Float[Tensor, "n t c"]]
    """By layer and step."""
    grids: Mapping[str, Grid]
    """Of each layer's tokens."""
    labels: Labels


@dataclass(frozen=True, slots=True)
class Scores:
    """Headline scores of every cell's probes on its test images; higher is better.

    Arrays are cells x images.
    """

    activations: Array
    permuted: Array
    """Probes of permuted labels, cells x draws x images."""
    with_position: Array
    position: Array
    mean_map: Array


class _PoolReducer:
    """A reducer that holds all activations of the trained network, and the labels."""

    def __init__(self) -> None:
        self.activations: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
        self.grids: dict[str, Grid] = {}
        self.labels: list[Labels] = []

    def update(
        self,
        step: int,
        network: str,
        layer: str,
        activation: Float[Tensor, "n t c"],
        grid: Grid,
    ) -> None:
        if network == TRAINED:
            self.activations[layer, step].append(activation.clone())
            self.grids[layer] = grid

    def finish(self, labels: Labels) -> None:
        self.labels.append(labels)


def read_pool(study: Study) -> Pool:
    """Run the trained network on every image of the study, and hold its activations."""
    reducer = _PoolReducer()
    recorded, networks = recorded_model(study)
    networks.open()
    for block in tqdm([*study.train, *study.test], desc="reading activations", unit="block"):
        study.stream(recorded, block.items, [reducer], study.config.probed_steps)
    activations = {site: torch.cat(parts) for site, parts in reducer.activations.items()}
    finest = max(reducer.grids.values())
    return Pool(activations, reducer.grids, _thinned(concatenate(reducer.labels), finest))


def null_scores(pool: Pool, study: Study, cells: int, seed: int = 0) -> Scores:
    """Score ``cells`` data sets of the study's size; layers, steps and tasks take turns."""
    sites, names = list(pool.activations), list(study.tasks)
    parts = []
    count = len(pool.labels.disparity)
    for number in tqdm(range(cells), desc="fitting probes to permuted labels", unit="cell"):
        rng = np.random.default_rng([seed, number])
        name = names[number // len(sites) % len(names)]
        task = replace(study.tasks[name], metrics=study.tasks[name].metrics[:1])
        images, labels = (torch.from_numpy(rng.permutation(count)) for _ in range(2))
        site = sites[number % len(sites)]
        data = _NullData(
            activations=pool.activations[site][images],
            labels=pool.labels.take(labels),
            layer=site[0],
            grid=pool.grids[site[0]],
            tasks={name: task},
        )
        parts.append(data.scores(study.train, study.test))
    return Scores(*(np.stack([getattr(part, name) for part in parts]) for name in Scores.__slots__))


@dataclass(frozen=True)
class _NullData:
    """One data set: image i has label i, and the first images are the training images."""

    activations: Float[Tensor, "n t c"]
    labels: Labels
    layer: str
    grid: Grid
    tasks: Mapping[str, Task]

    def scores(self, train: Sequence[Block], test: Sequence[Block]) -> Scores:
        """Accumulate, choose thresholds, solve and score as a run does."""
        (name,) = self.tasks
        starts = np.cumsum([0, *(len(block.items) for block in train)])
        draws = draws_of(train, DRAWS)
        folds = []
        for fold in range(fold_count(train)):
            blocks = [
                (int(start), block)
                for start, block in zip(starts, train, strict=False)
                if block.fold == fold
            ]
            rows = np.concatenate([start + np.arange(len(block.items)) for start, block in blocks])
            folds.append((rows, _orders([block for _, block in blocks], draws)))
        sums = []
        for rows, orders in folds:
            accumulator = Accumulator(self.tasks, orders)
            self._show(accumulator, rows)
            sums.append(accumulator.sums())
        probe_set = solve_probe_set(sums, [name], (0,), {TRAINED}, 1)
        if self.tasks[name].thresholded:
            draft = solve_probe_set(sums[:-1], [name], (0,), {TRAINED}, 1)
            readout = Readout(draft, self.tasks)
            rows, orders = folds[-1]
            self._show(readout, rows)
            probe_set = replace(probe_set, thresholds=best_thresholds(draft, readout.sweep(orders)))
        readout = Readout(probe_set, self.tasks)
        self._show(readout, int(starts[-1]) + np.arange(count_items(test)))
        sign = self.tasks[name].metrics[0].sign
        return _by_probe(probe_set, name, sign * readout.scores()[name][:, 0].numpy())

    def _show(self, reducer: Accumulator | Readout, rows: NDArray[np.int_]) -> None:
        index = torch.from_numpy(rows)
        reducer.update(0, TRAINED, self.layer, self.activations[index], self.grid)
        reducer.finish(self.labels.take(index))


def _orders(blocks: Sequence[Block], draws: int) -> list[list[int]]:
    """Join the permutations of the blocks, one block after the other."""
    orders: list[list[int]] = [[] for _ in range(draws)]
    for block in blocks:
        for order, permutation in zip(orders, block.permutations(draws), strict=True):
            start = len(order)
            order.extend(start + place for place in permutation)
    return orders


def _by_probe(probe_set: ProbeSet, name: str, scores: Array) -> Scores:
    rows: dict[str, list[Array]] = defaultdict(list)
    for cell, row in zip(probe_set.cells(name), scores, strict=True):
        rows[cell.probe].append(row)
    activations, with_position, position, mean_map = (
        rows[probe][0] for probe in (ACTIVATIONS, WITH_POSITION, POSITION, MEAN_MAP)
    )
    return Scores(activations, np.stack(rows[PERMUTED]), with_position, position, mean_map)


def _thinned(labels: Labels, grid: Grid) -> Labels:
    """Subsample maps to one pixel per token of the finest layer, which makes fits ten times faster.

    The labels of null data need no finer resolution.
    """
    height, width = labels.disparity.shape[-2:]
    down, right = max(1, height // grid.rows), max(1, width // grid.columns)
    return Labels(
        **{
            name: value[..., ::down, ::right].contiguous() if value.dim() > 1 else value
            for name, value in labels.tensors().items()
        }
    )
