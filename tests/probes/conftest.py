"""Blocks of synthetic activations and labels, and metrics computed pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score
from torch import Tensor

from datasets.grid import Grid
from datasets.labels import Labels
from probes.accumulate import Accumulator
from probes.probe_set import Cell, ProbeSet
from probes.solve import solve_probe_set
from probes.statistics import SufficientStatistics, total_sums
from probes.task import Task
from probes.tasks.depth import TASK as DEPTH
from probes.tasks.normals import TASK as NORMALS
from probes.tasks.saliency import TASK as SALIENCY

SIZE, IMAGES, DRAWS = 16, 4, 5
STEPS = (0, 3)
SIDES = {("trained", "fine"): 8, ("trained", "coarse"): 4, ("random-1", "coarse"): 4}
CHANNELS = {("trained", "fine"): 5, ("trained", "coarse"): 7, ("random-1", "coarse"): 7}


def upsampled(tokens: np.ndarray, h: int, w: int) -> np.ndarray:
    """Nearest-neighbour upsampling of the last axis, a square grid of tokens, to h x w."""
    side = round(tokens.shape[-1] ** 0.5)
    grid = tokens.reshape(*tokens.shape[:-1], side, side)
    return grid.repeat(h // side, -2).repeat(w // side, -1)


def pixel_dice(prediction: np.ndarray, mask: np.ndarray, threshold: float) -> float:
    chosen, mask = prediction > threshold, mask > 0.5
    sizes = chosen.sum() + mask.sum()
    return 2 * (chosen & mask).sum() / sizes if sizes else 1.0


def pixel_dice_background(prediction: np.ndarray, mask: np.ndarray, threshold: float) -> float:
    chosen, mask = prediction <= threshold, mask <= 0.5
    sizes = chosen.sum() + mask.sum()
    return 2 * (chosen & mask).sum() / sizes if sizes else 1.0


def pixel_average_precision(prediction: np.ndarray, mask: np.ndarray, _: float) -> float:
    if not mask.any():
        return np.nan
    return average_precision_score(mask.ravel() > 0.5, prediction.ravel())


def pixel_rmse(prediction: np.ndarray, target: np.ndarray, _: float) -> float:
    return np.sqrt(np.mean((prediction - target) ** 2))


def pixel_rmse_aligned(prediction: np.ndarray, target: np.ndarray, _: float) -> float:
    columns = np.stack([prediction.ravel(), np.ones(prediction.size)], axis=1)
    best = np.linalg.lstsq(columns, target.ravel())[0]
    return np.sqrt(np.mean((columns @ best - target.ravel()) ** 2))


def pixel_pearson(prediction: np.ndarray, target: np.ndarray, _: float) -> float:
    constant = np.ptp(prediction) == 0 or np.ptp(target) == 0
    return np.nan if constant else pearsonr(prediction.ravel(), target.ravel()).statistic


def pixel_spearman(prediction: np.ndarray, target: np.ndarray, _: float) -> float:
    constant = np.ptp(prediction) == 0 or np.ptp(target) == 0
    return np.nan if constant else spearmanr(prediction.ravel(), target.ravel()).statistic


def pixel_cosine(prediction: np.ndarray, target: np.ndarray, _: float) -> float:
    products = np.sum(prediction * target, axis=0)
    return np.mean(products / np.linalg.norm(prediction, axis=0) / np.linalg.norm(target, axis=0))


PIXEL_LEVEL = {
    "dice": pixel_dice,
    "dice_background": pixel_dice_background,
    "average_precision": pixel_average_precision,
    "rmse": pixel_rmse,
    "rmse_aligned": pixel_rmse_aligned,
    "pearson": pixel_pearson,
    "spearman": pixel_spearman,
    "cosine": pixel_cosine,
}


@dataclass(frozen=True)
class Block:
    """A block of images: labels, activations by site and step, and permutations of the labels."""

    labels: Labels
    activations: dict[tuple[str, str], list[Tensor]]
    permutations: list[list[int]]

    def feed(self, *reducers: object) -> None:
        for at, step in enumerate(STEPS):
            for (network, layer), steps in self.activations.items():
                grid = Grid.of(steps[at].shape[1], *self.labels.disparity.shape[-2:])
                for reducer in reducers:
                    reducer.update(step, network, layer, steps[at], grid)
        for reducer in reducers:
            reducer.finish(self.labels)

    def sums(self, tasks: dict[str, Task]) -> SufficientStatistics:
        accumulator = Accumulator(tasks, self.permutations)
        self.feed(accumulator)
        return accumulator.sums()

    def target(self, task: str) -> np.ndarray:
        return TASKS[task].target(self.labels).double().numpy()


TASKS = {"saliency": SALIENCY, "depth": DEPTH, "normals": NORMALS}


def drawn_block(seed: int, noise: float, images: int) -> Block:
    """A block whose activations are noisy mixtures of the labels' block means, far from zero."""
    rng = np.random.default_rng([617, seed])
    coarse = rng.normal(size=(images, 5, 4, 4)).repeat(4, -1).repeat(4, -2)
    smooth = coarse + 0.5 * rng.normal(size=(images, 5, SIZE, SIZE))
    normals = smooth[:, 2:] / np.linalg.norm(smooth[:, 2:], axis=1, keepdims=True)
    rows = np.linspace(-1, 1, SIZE)[:, None]
    labels = Labels(
        disparity=torch.from_numpy(smooth[:, 0] + rows).float(),
        saliency=torch.from_numpy(smooth[:, 1] > 0.4),
        normals=torch.from_numpy(normals).float(),
    )
    maps = np.concatenate([labels.disparity[:, None], labels.saliency[:, None], normals], axis=1)
    activations = {}
    for number, (site, side) in enumerate(SIDES.items()):
        means = (
            maps.reshape(images, 5, side, SIZE // side, side, SIZE // side)
            .mean((3, 5))
            .reshape(images, 5, -1)
        )
        mixing = np.random.default_rng([1, number]).normal(size=(5, CHANNELS[site]))
        signal = means.transpose(0, 2, 1) @ mixing if site[0] == "trained" else 0.0
        activations[site] = [
            torch.from_numpy(
                10
                + signal / (1 + at)
                + noise * rng.normal(size=(images, side * side, CHANNELS[site]))
            ).float()
            for at in range(len(STEPS))
        ]
    permutations = [
        np.roll(np.arange(images), 1 + draw % (images - 1)).tolist() for draw in range(DRAWS)
    ]
    return Block(labels, activations, permutations)


def cell_of(site: tuple[str, str], step: int, probe: str, draw: int = 0) -> Cell:
    return Cell(*site, step, probe, draw, Grid(SIDES[site], SIDES[site]))


@pytest.fixture(scope="session")
def pixels() -> SimpleNamespace:
    """Reference implementations: upsampling, and every metric on pixels."""
    return SimpleNamespace(upsampled=upsampled, metrics=PIXEL_LEVEL)


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """Five folds of one small block each, with real tasks in an order that is not alphabetical."""
    blocks = [drawn_block(seed, noise=1.0, images=IMAGES) for seed in range(5)]
    return SimpleNamespace(
        tasks=TASKS,
        steps=STEPS,
        sides=SIDES,
        channels=CHANNELS,
        size=SIZE,
        blocks=blocks,
        folds=[block.sums(TASKS) for block in blocks],
        draw=drawn_block,
        total=total_sums,
        cell=cell_of,
    )


@pytest.fixture(scope="session")
def probe_set(world: SimpleNamespace) -> ProbeSet:
    """All probes of the five folds; those of permuted labels only for the trained network."""
    return solve_probe_set(world.folds, list(world.tasks), world.steps, {"trained"}, threads=1)
