"""Resolve every name in a configuration: model, engine, items, labeler, tasks and fingerprint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.config import Config
from bench.environment import versions
from bench.errors import UserError
from bench.labeling import labeler_of, reader_of
from bench.model import Strengths, chosen_components, model_spec, strengths_of
from bench.registry import definition_of, plugin, usable_engine
from datasets.items import Dataset, Item
from datasets.labeler import Reader
from datasets.labels import Labels, exact_labels
from datasets.prompts import SUFFIXES, is_prompt_file, read_prompts
from datasets.raycast import render
from datasets.splits import Block, blocks_of, draws_of, fold_count, limited
from engines.cache import default_cache, hash_of_weights, key_of
from engines.components import Components
from engines.cuda_stream import own_device
from engines.engine import Backend, Engine, ModelSpec, Tap, reserved
from engines.identity import configuration_hashes
from extract.parts_fit import check_parts_fit
from extract.stream import BlockInput, BlockOutput, RecordedModel, Reducer, stream
from extract.taps import choose
from probes.accumulate import DRAWS
from probes.task import Task
from probes.task_check import checked

SCHEMA = 8
"""Incremented whenever stored sums or scores of older code would be wrong."""


@dataclass(frozen=True)
class Study:
    """A configuration with its names resolved."""

    config: Config
    spec: ModelSpec
    components: Components
    taps: tuple[Tap, ...]
    """Every self-attention, so that one exported graph serves every choice of layers."""
    convolutions: tuple[Tap, ...]
    """The last convolution of every residual block."""
    layers: tuple[str, ...]
    """The layers to probe."""
    backend: Backend
    dataset: Dataset
    reader: Reader
    tasks: dict[str, Task]
    train: tuple[Block, ...]
    test: tuple[Block, ...]
    facts: Mapping[str, object]
    """Everything that determines the scores, by its name in messages."""
    threads: int

    @property
    def fingerprint(self) -> str:
        """A short hash of the facts: equal runs have equal ones."""
        return key_of(self.facts)

    @property
    def brief_facts(self) -> dict[str, str | int | float]:
        """Short facts, and hashes of long ones: enough to name the differences of two runs."""
        return {
            name: value if isinstance(value, str | int | float) else key_of({name: value})
            for name, value in self.facts.items()
        }

    @property
    def task_code(self) -> dict[str, str]:
        """A hash of the code of each task."""
        return {name: definition_of("task", name) for name in self.tasks}

    @property
    def device(self) -> torch.device:
        """The device of the engine's outputs, of the model's other parts and of the statistics."""
        return own_device(self.backend.device)

    @property
    def items(self) -> int:
        """Items to generate, training and test together."""
        return sum(len(block.items) for block in (*self.train, *self.test))

    @property
    def folds(self) -> int:
        """Folds of the training items."""
        return fold_count(self.train)

    @property
    def draws(self) -> int:
        """Label permutations per block of training items; none where a block has one item."""
        return draws_of(self.train, DRAWS)

    @property
    def guidance(self) -> float | None:
        """Strength of classifier-free guidance; None without its second half of a batch."""
        return self.strengths.rows

    @property
    def strengths(self) -> Strengths:
        """Strengths of guidance."""
        return strengths_of(self.config, self.spec, self.components)

    @property
    def rows_per_step(self) -> int:
        """Rows of the denoiser per generated image and step."""
        return 1 if self.config.source == "rendered" or self.guidance is None else 2

    def opened(self) -> Engine:
        """Open the engine of the network that generates, with every self-attention tapped.

        From now on the model's other parts compute on its device.
        """
        engine = self.backend.open(
            self.components.denoiser, self.taps, default_cache(), self.threads
        )
        self.components.send(self.device)
        return reserved(engine, self.config.batch)

    def block_input(self, items: Sequence[Item]) -> tuple[BlockInput, Callable[[Tensor], Labels]]:
        """Return the input of a block of items, and the function that labels its images."""
        prompts, seeds = [item.prompt for item in items], [item.seed for item in items]
        if self.config.source == "generated":
            return BlockInput(prompts, seeds), self.reader
        assert self.dataset.scene is not None
        rendered = render(
            [self.dataset.scene(item) for item in items], self.components.image_size[0]
        )
        labels = exact_labels(rendered, self.reader.scale)
        return BlockInput(prompts, seeds, rendered.rgb), lambda _: labels

    def stream(
        self,
        recorded: RecordedModel,
        items: Sequence[Item],
        reducers: Sequence[Reducer] = (),
        steps: Sequence[int] = (),
        noisy: Sequence[int] = (),
    ) -> tuple[BlockOutput, Labels]:
        """Generate a block of items once, and pass the activations of ``steps`` to the reducers."""
        block_input, read = self.block_input(items)
        return stream(recorded, block_input, reducers, steps, read, noisy)


def threads_of(config: Config) -> int:
    """Return the number of CPU threads, by default all that this process may use."""
    return config.threads or len(os.sched_getaffinity(0))


def dataset_of(config: Config) -> tuple[Dataset, tuple[Item, ...]]:
    """Return the dataset and its items; a name that ends in .csv, .tsv or .txt is a file."""
    folder = None if config.prompts is None else Path(config.prompts)
    if is_prompt_file(config.dataset):
        if folder or config.fetch:
            raise UserError(
                f"{config.dataset} has its own prompts; leave --prompts and --fetch out"
            )
        path = Path(config.dataset)
        dataset = Dataset(items=lambda folder=None: read_prompts(folder or path))
    else:
        if "/" in config.dataset or Path(config.dataset).suffix:
            raise UserError(
                f"{config.dataset} is no file of prompts: its name does not end in "
                f"{', '.join(SUFFIXES)}; give such a file, or a dataset's name"
            )
        dataset = plugin("dataset", config.dataset)
        if config.fetch and not folder:
            if dataset.fetch is None:
                raise UserError(
                    f"dataset {config.dataset} has nothing to download; leave --fetch out"
                )
            folder = dataset.fetch(default_cache())
    return dataset, limited(dataset.items(folder), config.limit)


def _refuse_size(config: Config, height: int, width: int) -> None:
    if config.source == "rendered" and height != width:
        raise UserError(
            f"scenes are rendered square and the model's images have {height} x {width} pixels; "
            "use --source generated or a square size"
        )


def open_study(config: Config, labels: bool = True, drawn: bool = True) -> Study:
    """Resolve every name of ``config``. Raises UserError, EngineError or DatasetError.

    Without ``labels``, brightness stands in where neither options nor model name a labeler. Unless
    ``drawn``, the study has no weights where configurations suffice: it can be counted, not run.
    """
    tasks = {name: checked(name, plugin("task", name)) for name in config.tasks}
    spec = model_spec(config.model)
    backend = usable_engine(config.engine)
    dataset, items = dataset_of(config)
    labeler = labeler_of(config, spec, labels)
    reader = reader_of(config, labeler)
    if config.source == "rendered" and dataset.scene is None:
        raise UserError(f"dataset {config.dataset} has no rendered scenes; use --source generated")
    train, test = blocks_of(items, "train"), blocks_of(items, "test")
    components = chosen_components(config, spec, drawn)
    _refuse_size(config, *components.image_size)
    if config.source == "generated":
        # A label that the labeler lacks ends the run before anything is exported or generated.
        blank = reader(torch.zeros(1, 3, *components.image_size))
        for task in tasks.values():
            task.target(blank)
    taps = tuple(tap for kind in config.taps for tap in components.taps(kind))
    layers = tuple(tap.layer for tap in choose(taps, config.layers))
    check_parts_fit(components, [tap for tap in taps if tap.layer in layers])
    strengths = strengths_of(config, spec, components)
    facts = {
        "version of the scores": SCHEMA,
        **{
            name: getattr(config, name) or 0
            for name in ("engine", "sampler_steps", "source", "random_networks", "batch", "width")
        },
        "tasks": sorted(set(config.tasks)),
        "baselines": sorted(set(config.baselines)),
        "steps": config.probed_steps,
        "guidance": strengths.rows if strengths.rows is not None else "none",
        "embedded guidance": strengths.embedded if strengths.embedded is not None else "none",
        "sampler": components.sampler_class,
        "size": "x".join(map(str, components.image_size)),
        "layers": [[tap.layer, tap.path] for tap in taps if tap.layer in layers],
        "taps": sorted(config.taps),
        "items": [[item.id, item.prompt, item.seed, item.split] for item in items],
        "labeler": labeler,
        "weights of the model": [
            hash_of_weights(part.state_dict()) if drawn else ""
            for part in components.networks.values()
        ],
        "configuration of the model": configuration_hashes(components),
        "weights of the labeler": reader.fingerprint,
        "noise schedule": components.schedule,
        **({"autoencoder": "fp16"} if components.half_decoding else {}),
        **{f"version of {name}": number for name, number in versions(config.engine).items()},
    }
    return Study(
        config=config,
        spec=spec,
        components=components,
        taps=taps,
        convolutions=components.convolutions,
        layers=layers,
        backend=backend,
        dataset=dataset,
        reader=reader,
        tasks=tasks,
        train=train,
        test=test,
        facts=facts,
        threads=threads_of(config),
    )
