"""Data sets in which activations know nothing: real activations, other images' labels, the run's own pipeline.

A cell is one data set: images are dealt anew to training, folds and test, and labels are dealt to images, so cells
are independent given the pool of images. Whatever is called in them at 5 % is a false alarm.
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
from datasets.labels import Labels, concatenate
from datasets.splits import Block, draws_of, fold_count
from extract.networks import TRAINED
from probes.accumulate import DRAWS, Accumulator, side_of
from probes.probe_set import ACTIVATIONS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION, ProbeSet
from probes.readout import Readout, best_thresholds
from probes.solve import solve_probe_set
from probes.task import Task


@dataclass(frozen=True, slots=True)
class Pool:
    """Activations and labels of every image, kept: a few layers and steps of a small model fit into memory."""

    activations: dict[tuple[str, int], Float[Tensor, "n t c"]]
    """By layer and step."""
    labels: Labels

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.labels.disparity)


@dataclass(frozen=True, slots=True)
class Scores:
    """Headline scores of the probes of every cell for its test images, turned so that higher is better."""

    ours: NDArray[np.float64]
    """cells x images: probes of activations."""
    permuted: NDArray[np.float64]
    """cells x draws x images: their controls."""
    with_position: NDArray[np.float64]
    position: NDArray[np.float64]
    mean_map: NDArray[np.float64]


class _Keep:
    """The reducer that keeps everything the trained network says."""

    def __init__(self) -> None:
        self.activations: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
        self.labels: list[Labels] = []

    def see(self, step: int, network: str, layer: str, activation: Float[Tensor, "n t c"]) -> None:
        if network == TRAINED:
            self.activations[layer, step].append(activation.clone())

    def finish(self, labels: Labels) -> None:
        self.labels.append(labels)


def read_pool(study: Study) -> Pool:
    """Show every image of the study to the trained network, and keep what it says."""
    keep = _Keep()
    recorded, networks = recorded_model(study)
    networks.open()
    for block in tqdm([*study.train, *study.test], desc="reading activations", unit="block"):
        study.stream(recorded, block.items, [keep], study.config.probed_steps)
    activations = {site: torch.cat(parts) for site, parts in keep.activations.items()}
    return Pool(
        activations,
        _thinned(concatenate(keep.labels), max(side_of(values) for values in activations.values())),
    )


def null_scores(pool: Pool, study: Study, cells: int, seed: int = 0) -> Scores:
    """Scores of ``cells`` data sets as large as the study; layers, steps and tasks take turns."""
    sites, names = list(pool.activations), list(study.tasks)
    found = []
    for number in tqdm(range(cells), desc="fitting probes to permuted labels", unit="cell"):
        rng = np.random.default_rng([seed, number])
        name = names[number // len(sites) % len(names)]
        task = replace(study.tasks[name], metrics=study.tasks[name].metrics[:1])
        images, labels = (torch.from_numpy(rng.permutation(pool.images)) for _ in range(2))
        site = sites[number % len(sites)]
        deal = _Deal(
            pool.activations[site][images], pool.labels.take(labels), site[0], {name: task}
        )
        found.append(deal.scores(study.train, study.test))
    return Scores(
        *(np.stack([getattr(entry, part) for entry in found]) for part in Scores.__slots__)
    )


@dataclass(frozen=True)
class _Deal:
    """One data set: image i has label i, and the first images are the training images."""

    activations: Float[Tensor, "n t c"]
    labels: Labels
    layer: str
    tasks: Mapping[str, Task]

    def scores(self, train: Sequence[Block], test: Sequence[Block]) -> Scores:
        """What a run does with such images: sums, thresholds, probes, scores."""
        (name,) = self.tasks
        starts = np.cumsum([0, *(len(block.items) for block in train)])
        folds, draws = [], draws_of(train, DRAWS)
        for fold in range(fold_count(train)):
            mine = [
                (start, block)
                for start, block in zip(starts, train, strict=False)
                if block.fold == fold
            ]
            folds.append(
                (
                    [start + np.arange(len(block.items)) for start, block in mine],
                    _orders(mine, draws),
                )
            )
        sums = []
        for slots, orders in folds:
            accumulator = Accumulator(self.tasks, orders)
            self._show(accumulator, np.concatenate(slots))
            sums.append(accumulator.sums())
        probe_set = solve_probe_set(sums, [name], (0,), {TRAINED}, 1)
        if self.tasks[name].thresholded:
            draft = solve_probe_set(sums[:-1], [name], (0,), {TRAINED}, 1)
            readout = Readout(draft, self.tasks)
            self._show(readout, np.concatenate(folds[-1][0]))
            probe_set = replace(
                probe_set, thresholds=best_thresholds(draft, readout.sweep(folds[-1][1]))
            )
        readout = Readout(probe_set, self.tasks)
        self._show(readout, int(starts[-1]) + np.arange(sum(len(block.items) for block in test)))
        sign = self.tasks[name].metrics[0].sign
        return _parted(probe_set, name, sign * readout.scores()[name][:, 0].numpy())

    def _show(self, reducer: Accumulator | Readout, chosen: NDArray[np.int_]) -> None:
        index = torch.from_numpy(chosen)
        reducer.see(0, TRAINED, self.layer, self.activations[index])
        reducer.finish(self.labels.take(index))


def _orders(blocks: Sequence[tuple[int, Block]], draws: int) -> list[list[int]]:
    """The blocks' own permutations, joined: one block after the other."""
    orders: list[list[int]] = [[] for _ in range(draws)]
    for _, block in blocks:
        for order, mine in zip(orders, block.permutations(draws), strict=True):
            at = len(order)
            order.extend(at + site for site in mine)
    return orders


def _parted(probe_set: ProbeSet, name: str, scores: NDArray[np.float64]) -> Scores:
    rows: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for cell, row in zip(probe_set.cells(name), scores, strict=True):
        rows[cell.probe].append(row)
    alone, both, position, mean_map = (
        rows[probe][0] for probe in (ACTIVATIONS, WITH_POSITION, POSITION, MEAN_MAP)
    )
    return Scores(alone, np.stack(rows[PERMUTED]), both, position, mean_map)


def _thinned(labels: Labels, side: int) -> Labels:
    """One pixel for each token of the finest layer: a null's labels need no finer grain, and fits take a tenth."""
    every = max(1, labels.disparity.shape[-1] // side)
    kept = {
        name: value[..., ::every, ::every].contiguous() if value.dim() > 1 else value
        for name, value in labels.tensors().items()
    }
    return Labels(**kept)
