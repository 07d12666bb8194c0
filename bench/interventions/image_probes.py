"""The run's probes of whole images, and what their edits need beside them.

Such a probe reads the mean activation m over an image's tokens. A run stores its weights alone; the
means of m by class and its covariance are of the training images, which are generated again once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from bench.interventions.config import Plan
from bench.interventions.runner import EditableRun
from bench.registry import plugin
from bench.runs.probes import read_probes
from bench.runs.regenerate import generate
from bench.runs.results import Results, probe_name
from datasets.grid import Grid
from datasets.labels import Labels
from engines.cache import key_of
from extract.networks import TRAINED
from probes.edit import Probe, activation_pattern
from probes.probe_set import ACTIVATIONS


class MeanStore:
    """A reducer that holds the mean activation of every image, and the images' classes."""

    def __init__(self, layers: Sequence[str], tasks: Sequence[str]) -> None:
        self._layers = set(layers)
        self.means: dict[tuple[str, int], list[Tensor]] = {}
        self.classes: dict[str, list[Tensor]] = {task: [] for task in tasks}

    def update(
        self, step: int, network: str, layer: str, activation: Float[Tensor, "n t c"], grid: Grid
    ) -> None:
        """Hold the means over tokens of the trained network's activations."""
        if network == TRAINED and layer in self._layers:
            self.means.setdefault((layer, step), []).append(activation.float().mean(1).cpu())

    def finish(self, labels: Labels) -> None:
        """Hold the block's classes."""
        for task, parts in self.classes.items():
            parts.append(classes_of(task, labels))


def classes_of(task: str, labels: Labels) -> Tensor:
    """The class of every image, as an index."""
    classes: Tensor = plugin("task", task).target(labels).flatten(1).argmax(1)
    return classes


def class_means(run: EditableRun, plan: Plan, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Mean activations of all training images and their classes, from disk or generated now."""

    def make() -> dict[str, Tensor]:
        store = MeanStore(plan.layers, tasks)
        steps = [number - 1 for number in plan.steps]
        total = sum(len(block.items) for block in run.study.train)
        with tqdm(total=total, unit="item", desc="training items") as bar:
            generate(run.study, run.generator.engine, run.study.train, steps, store, bar)
        means = {f"{layer}/{step}": torch.cat(part) for (layer, step), part in store.means.items()}
        return means | {f"class/{task}": torch.cat(part) for task, part in store.classes.items()}

    facts = {"layers": plan.layers, "steps": plan.steps, "tasks": list(tasks)}
    return run.shards.get(f"class-means-{key_of(facts)[:16]}", make)


class ImageProbes:
    """The probes of one task of whole images, by layer and step (0 to T-1)."""

    def __init__(self, results: Results, task: str, stored: Mapping[str, Tensor]) -> None:
        """Take the run's probes, and the result of :func:`class_means`."""
        self.task, self._task = task, results.tasks[task]
        self._tensors = read_probes(results, f"{task}/{TRAINED}/")
        self._stored = stored
        self._classes = stored[f"class/{task}"]
        self._count = len(plugin("task", task).classes)
        self.get, self.means = cache(self._get), cache(self._means)

    def _get(self, layer: str, step: int) -> Probe:
        """Return a probe with its pattern."""
        (cell,) = self._task.where(
            network=TRAINED, layer=layer, step=step, probe=ACTIVATIONS, draw=0
        )
        stem = probe_name(self.task, cell)
        weights = self._tensors[f"{stem}/weights"].double()
        covariance = self._stored[f"{layer}/{step}"].double().mT.cov()
        return Probe(
            weights.float(),
            self._tensors[f"{stem}/intercept"].float(),
            activation_pattern(weights, covariance).float(),
        )

    def _means(self, layer: str, step: int) -> Float[Tensor, "k c"]:
        """Return the mean of m over the images of each class; of all for a class without any."""
        of_images = self._stored[f"{layer}/{step}"]
        chosen = [self._classes == index for index in range(self._count)]
        return torch.stack(
            [of_images[rows].mean(0) if rows.any() else of_images.mean(0) for rows in chosen]
        )
