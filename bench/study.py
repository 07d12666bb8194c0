"""Open everything a configuration names, once: model, engines, items, labels, tasks, and the run's fingerprint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from bench.config import Config, nearest
from bench.environment import versions
from bench.errors import MistakeError
from bench.resolve import plugin, plugins
from datasets.items import Dataset, Item
from datasets.labeler import Reader
from datasets.labels import Labels, exact_labels
from datasets.raycast import render
from datasets.splits import Block, blocks_of, limited
from engines.cache import default_cache, hash_of_weights, key_of
from engines.engine import Backend, Engine, ModelSpec, Tap
from engines.load import Components, load
from engines.weights import permuted
from extract.stream import TRAINED, Given, Subject
from extract.taps import choose, self_attention_taps
from probes.task import Task

SCHEMA = 2
"""Raised whenever stored sums or scores of an older code would no longer be right."""


@dataclass(frozen=True)
class Study:
    """A configuration with its names resolved."""

    config: Config
    spec: ModelSpec
    components: Components
    taps: tuple[Tap, ...]
    """Every self-attention: engines are made for all of them, so that one exported graph serves every choice."""
    layers: tuple[str, ...]
    """The layers to probe."""
    backend: Backend
    dataset: Dataset
    reader: Reader
    tasks: dict[str, Task]
    train: tuple[Block, ...]
    test: tuple[Block, ...]
    fingerprint: str
    threads: int

    @property
    def items(self) -> int:
        """Items to paint, training and test together."""
        return sum(len(block.items) for block in (*self.train, *self.test))

    @property
    def guidance(self) -> float:
        """Strength of classifier-free guidance."""
        return self.spec.guidance if self.config.guidance is None else float(self.config.guidance)

    @property
    def random_names(self) -> tuple[str, ...]:
        """Names of the random networks."""
        return tuple(f"random-{seed + 1}" for seed in range(self.config.random_networks))

    def subject(self) -> Subject:
        """Open the engines. This is where a first run exports the model."""
        torch.set_num_threads(self.threads)
        cache = default_cache()

        def opened(unet: UNet2DConditionModel) -> Engine:
            return self.backend.open(unet, self.taps, cache, self.threads)

        networks = {TRAINED: opened(self.components.unet)}
        for seed, name in enumerate(self.random_names):
            networks[name] = opened(permuted(self.components.unet, seed))
        return Subject(
            self.components, networks, self.layers, self.config.sampler_steps, self.guidance, self.config.batch
        )

    def given(self, items: Sequence[Item]) -> tuple[Given, Callable[[Tensor], Labels]]:
        """What a block of items is painted from, and how its labels are had."""
        prompts, seeds = [item.prompt for item in items], [item.seed for item in items]
        if self.config.source == "generated":
            return Given(prompts, seeds), self.reader
        assert self.dataset.scene is not None
        rendered = render([self.dataset.scene(item) for item in items], int(self.components.vae.config.sample_size))
        labels = exact_labels(rendered, self.reader.scale)
        return Given(prompts, seeds, rendered.rgb), lambda _: labels


def model_spec(name: str) -> ModelSpec:
    """A model by name, folder or hub id."""
    known = plugins("model")
    if name in known:
        spec = plugin("model", name)
        assert isinstance(spec, ModelSpec)
        return spec
    if Path(name).exists() or "/" in name:
        return ModelSpec(source=name, guidance=7.5, labeler="tiny")
    raise MistakeError(f"there is no model {name!r}{nearest(name, list(known))} (or give a diffusers folder or hub id)")


def open_study(config: Config) -> Study:
    """Resolve every name of ``config``. Raises MistakeError, EngineError or DatasetError with a sentence each."""
    tasks: dict[str, Task] = {name: plugin("task", name) for name in config.tasks}
    spec = model_spec(config.model)
    backend: Backend = plugin("engine", config.engine)
    reason = backend.unavailable()
    if reason:
        raise MistakeError(f"engine {config.engine} cannot be used here: {reason}")
    dataset: Dataset = plugin("dataset", config.dataset)
    labeler = config.labeler or spec.labeler
    reader: Reader = plugin("labeler", labeler).open()
    if config.source == "rendered" and dataset.scene is None:
        raise MistakeError(f"dataset {config.dataset} has no rendered scenes; use --source generated")
    items = limited(dataset.items(), config.limit)
    train, test = blocks_of(items, "train"), blocks_of(items, "test")
    components = load(spec.source)
    if config.source == "generated":
        # A label that is missing should end the run before anything is exported or painted.
        seen = reader(torch.zeros(1, 3, *[int(components.vae.config.sample_size)] * 2))
        for task in tasks.values():
            task.target(seen)
    taps = self_attention_taps(components.unet)
    layers = tuple(tap.layer for tap in choose(taps, config.layers))
    facts = {
        "schema": SCHEMA,
        "config": {
            name: getattr(config, name)
            for name in ("engine", "tasks", "sampler_steps", "source", "random_networks", "batch", "guidance")
        },
        "probed": config.probed_steps,
        "guidance": spec.guidance if config.guidance is None else config.guidance,
        "taps": [[tap.layer, tap.path] for tap in taps if tap.layer in layers],
        "items": [[item.id, item.prompt, item.seed, item.split] for item in items],
        "labeler": labeler,
        "weights": [
            hash_of_weights(part.state_dict()) for part in (components.unet, components.vae, components.text_encoder)
        ],
        "labeler_weights": reader.fingerprint,
        "schedule": components.schedule,
        "versions": versions(),
    }
    return Study(
        config=config,
        spec=spec,
        components=components,
        taps=taps,
        layers=layers,
        backend=backend,
        dataset=dataset,
        reader=reader,
        tasks=tasks,
        train=train,
        test=test,
        fingerprint=key_of(facts),
        threads=config.threads or len(os.sched_getaffinity(0)),
    )
