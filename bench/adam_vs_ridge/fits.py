"""Probes of the published recipe, fitted to a run's training items and kept with the run.

No run stores activations, so the items are generated again. A finished fit is a shard in the run's
folder of interventions: an interruption loses no fit, and every later command reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from bench.measure import timed
from bench.runs.probes import StoredProbes
from bench.runs.regenerate import generate
from bench.runs.results import Results
from bench.study import Study
from datasets.grid import Grid
from datasets.labels import Labels
from engines.cache import key_of
from engines.engine import Engine
from extract.networks import TRAINED
from extract.shards import Shards
from probes.adam import BATCH, EPOCHS, RATE, SEED, Epochs, target_blocks, train
from probes.published_edit import PublishedProbe
from probes.task import Task

SCHEMA = 1
"""Raised whenever stored fits of older code are no longer right."""
FOLDER = "published"
MOST_BYTES = 1 << 30
"""Of activations that are held at once; more sites take more passes over the items."""

FitSite = tuple[str, int, int]
"""Layer, step (0 to T-1) and permutation of the labels (0 for the true labels)."""


class ActivationStore:
    """A reducer that holds the activations of some sites and the images' targets, by block."""

    def __init__(self, sites: Collection[tuple[str, int]], tasks: Mapping[str, Task]) -> None:
        self.activations: dict[tuple[str, int], list[Float[Tensor, "n t c"]]] = {
            site: [] for site in sites
        }
        self.targets: dict[str, list[Float[Tensor, "n h w"]]] = {name: [] for name in tasks}
        self._tasks = tasks

    def update(
        self,
        step: int,
        network: str,
        layer: str,
        activation: Float[Tensor, "n t c"],
        grid: Grid,
    ) -> None:
        """Hold an activation of the trained network at one of the sites."""
        if network == TRAINED and (layer, step) in self.activations:
            # Activations are often views, which would keep the other half of their batch alive.
            self.activations[layer, step].append(activation.float().cpu().clone())

    def finish(self, labels: Labels) -> None:
        """Hold the block's targets."""
        for name, targets in self.targets.items():
            targets.append(self._tasks[name].target(labels)[:, 0].float())


@dataclass(frozen=True, slots=True)
class TimedFit:
    """A probe after every epoch, and how long its fit took."""

    epochs: Epochs
    seconds: float
    threads: int
    """CPU threads of the fit; 0 where an earlier version stored it."""


class Fits:
    """The stored fits of one run and number of epochs."""

    def __init__(self, results: Results, epochs: int = EPOCHS) -> None:
        facts = {
            "schema": SCHEMA,
            "run": results.fingerprint,
            "recipe": [epochs, BATCH, RATE, SEED],
        }
        self.epochs = epochs
        self._shards = Shards(results.path / "interventions" / FOLDER, key_of(facts))

    def done(self, task: str, site: FitSite) -> bool:
        """Whether a fit is stored and whole."""
        name = _name(task, site)
        return self._shards.done(name) and self._shards.damage(name) is None

    def get(self, task: str, site: FitSite, make: Callable[[], Epochs]) -> TimedFit:
        """Read a fit, or make and store it."""

        def tensors() -> dict[str, Tensor]:
            made, seconds = timed(make)
            return {
                "weights": made.weights.contiguous(),
                "train_loss": made.train_loss,
                "seconds": torch.tensor(seconds, dtype=torch.float64),
                "threads": torch.tensor(torch.get_num_threads()),
            }

        stored = self._shards.get(_name(task, site), tensors)
        epochs = Epochs(stored["weights"], stored["train_loss"])
        threads = int(stored["threads"]) if "threads" in stored else 0
        return TimedFit(epochs, float(stored["seconds"]), threads)


def _name(task: str, site: FitSite) -> str:
    layer, step, draw = site
    return f"{task}-{layer}-{step + 1}-{draw}"


class PublishedProbes:
    """The probes after the last epoch. The authors keep the one of least loss on test images."""

    def __init__(self, probes: Mapping[FitSite, PublishedProbe]) -> None:
        self._probes = dict(probes)

    def get(self, layer: str, step: int, draw: int = 0) -> PublishedProbe:
        """Return a probe; draw 1 is fitted to permuted labels."""
        return self._probes[layer, step, draw]


def published_probes(
    results: Results,
    study: Study,
    engine: Engine,
    task: str,
    sites: Sequence[FitSite],
    most_bytes: int = MOST_BYTES,
) -> PublishedProbes:
    """Read the probes of the sites, and fit those that are missing.

    Every pass generates all training items and holds at most ``most_bytes`` of activations, or
    those of one layer and step if they are more.
    """
    fits = Fits(results)
    missing = [site for site in dict.fromkeys(sites) if not fits.done(task, site)]
    stored, chosen = StoredProbes(results, task), study.tasks[task]
    images = sum(len(block.items) for block in study.train)

    def bytes_of(place: tuple[str, int]) -> int:
        channels = len(stored.get(*place).weights)
        return images * stored.cell(*place).grid.tokens * channels * 4

    places = list(dict.fromkeys((layer, step) for layer, step, _ in missing))
    for group in grouped(places, bytes_of, most_bytes):
        store = ActivationStore(group, {task: chosen})
        with tqdm(total=images, unit="item", desc="training items") as bar:
            generate(study, engine, study.train, sorted({step for _, step in group}), store, bar)
        target = torch.cat(store.targets[task])
        due = {place: [draw for *at, draw in missing if tuple(at) == place] for place in group}
        with tqdm(total=sum(map(len, due.values())), unit="probe", desc="published probes") as bar:
            for (layer, step), draws in due.items():
                activations = torch.cat(store.activations.pop((layer, step)))
                grid = stored.cell(layer, step).grid
                for draw in draws:
                    labels = target[permutation(len(target), draw)] if draw else target
                    blocks = target_blocks(labels, grid, chosen.thresholded)
                    fit = partial(train, activations, blocks, chosen.thresholded, fits.epochs)
                    fits.get(task, (layer, step, draw), fit)
                    bar.update()
    return PublishedProbes({site: _last(fits, task, site) for site in sites})


def _last(fits: Fits, task: str, site: FitSite) -> PublishedProbe:
    def lost() -> Epochs:
        raise AssertionError(f"the fit {_name(task, site)} was stored")

    return PublishedProbe(fits.get(task, site, lost).epochs.weights[-1])


def permutation(images: int, draw: int) -> Tensor:
    """Return a random cyclic order, which gives every image the labels of another one."""
    order = torch.from_numpy(np.random.default_rng([SEED, draw]).permutation(images))
    permuted = torch.empty_like(order)
    permuted[order] = order.roll(1)
    return permuted


def grouped(
    places: Sequence[tuple[str, int]],
    bytes_of: Callable[[tuple[str, int]], int],
    most_bytes: int,
) -> Iterator[list[tuple[str, int]]]:
    """Cut layers and steps into groups whose activations are at most ``most_bytes``, by step."""
    group: list[tuple[str, int]] = []
    total = 0
    for place in sorted(places, key=lambda place: place[1]):
        size = bytes_of(place)
        if group and total + size > most_bytes:
            yield group
            group, total = [], 0
        group.append(place)
        total += size
    if group:
        yield group
