"""Generate some test items of a run again, and keep what its stored probes read at every step.

Two images are generated for each item i: with its own seed, whose activations the run's best
probes read, and with the seed of its follower. The second image shares the prompt of item i and the
noise of its follower, so that the same images are a control of another seed for one item and a
control of another prompt for the other. The follower is the next item, or a later one where
neighbours share their prompt or their seed.

The readings of a model are kept in a folder per model, block by block, and read again by the same
command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from bench.across.models import Model
from bench.across.shared import Shared
from bench.errors import UserError
from bench.networks import alone
from bench.registry import plugin
from bench.runs.probes import chosen_probe_set
from bench.runs.reopen import reopened
from bench.runs.results import TaskResults
from datasets.items import Item
from datasets.labels import Labels
from engines.cache import key_of
from extract.networks import CLEAN, INPUT, TRAINED
from extract.shards import Shards
from probes.probe_set import Cell
from probes.readout import Readout
from probes.task import Task

BLOCK = 8
"""Items that are generated together."""
READ = (TRAINED, INPUT, CLEAN)
"""Whose probes are read: of activations, the latent itself, the predicted clean latent."""
_FORMAT = 3
_IMAGES, _SHIFT = "images", "shift"


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What one model generates for n items, and what its probes read on the way."""

    model: Model
    items: tuple[str, ...]
    tasks: dict[str, Task]
    images: Tensor
    """n x 3 x height x width, 8 bits; with the items' own seeds."""
    own: Labels
    """Of these images."""
    reseeded: Labels
    """Of the images with the prompt of item i and the seed of its follower."""
    shift: int
    """The follower of item i is item i + shift, counted on from item 0 after the last."""
    predictions: dict[tuple[str, Cell], Tensor]
    """Task and cell -> n x tokens x channels; the best cell of each network and step."""

    @property
    def other_prompt(self) -> Labels:
        """Of the images with the seed of item i and the prompt of the item that it follows."""
        return self.reseeded.take([*range(-self.shift, len(self.items) - self.shift)])

    def cell(self, task: str, network: str, step: int) -> Cell | None:
        """Return the cell that was read; None where the run has none."""
        cells = (cell for name, cell in self.predictions if name == task)
        return next((c for c in cells if (c.network, c.step) == (network, step)), None)


def chosen_items(shared: Shared, count: int) -> tuple[str, ...]:
    """Return the first shared test items. Raises UserError for a number that is out of range."""
    if not 4 <= count <= len(shared.items):
        raise UserError(
            f"--items {count} is not from 4 to {len(shared.items)}, the test items that the runs "
            "share"
        )
    return shared.items[:count]


def read_items(
    shared: Shared, model: Model, items: Sequence[str], folder: Path, threads: int | None
) -> Readings:
    """Return the readings of a model, from ``folder`` if they are there, else generated.

    Raises UserError when this installation would not generate the run's images.
    """
    cells = {name: _cells(shared.task(model, name)) for name in shared.tasks}
    named = {name: [str(cell) for cell in chosen] for name, chosen in cells.items()}
    key = key_of(
        {
            "format": _FORMAT,
            "run": model.results.fingerprint,
            "items": list(items),
            "cells": named,
        }
    )
    shards = Shards(folder, f"{model.name}-{key[:12]}")
    # Opened only where something is still to be generated.
    opened = cache(lambda: _Reader(model, items, cells, threads))
    blocks = [
        shards.get(f"items-{start + 1}", partial(_block, opened, start))
        for start in range(0, len(items), BLOCK)
    ]
    stored = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
    return Readings(
        model,
        tuple(items),
        {name: plugin("task", name) for name in shared.tasks},
        stored[_IMAGES],
        _labels(stored, "own"),
        _labels(stored, "reseeded"),
        int(stored[_SHIFT][0]),
        {
            (name, cell): stored[f"read.{name}.{cell.network}.{cell.step}"]
            for name, chosen in cells.items()
            for cell in chosen
        },
    )


def _block(opened: Callable[[], _Reader], start: int) -> dict[str, Tensor]:
    return opened().block(start)


def _cells(task: TaskResults) -> list[Cell]:
    """Return the best cell of each network and step, chosen on training images."""
    steps = sorted({cell.step for cell in task.where(network=TRAINED)})
    found = (
        task.best(network=network, step=step, probe=task.gain_probe)
        for network in READ
        for step in steps
    )
    return [cell for cell in found if cell is not None]


def follower_shift(items: Sequence[Item]) -> int:
    """Return by how much to shift items so that each meets one of another prompt and seed.

    Raises UserError where no shift does that.
    """
    for shift in range(1, len(items)):
        pairs = zip(items, [*items[shift:], *items[:shift]], strict=True)
        if all(one.prompt != other.prompt and one.seed != other.seed for one, other in pairs):
            return shift
    raise UserError(
        "the test items have too few different prompts or seeds for controls of another seed and "
        "of another prompt; compare without generating images: --items 0"
    )


class _Reader:
    """A run's model and probes, opened to generate blocks of items."""

    def __init__(
        self,
        model: Model,
        items: Sequence[str],
        cells: dict[str, list[Cell]],
        threads: int | None,
    ) -> None:
        study, engine = reopened(model.results, threads)
        by_id = {item.id: item for block in study.test for item in block.items}
        self._study, self._cells = study, cells
        self._items = [by_id[name] for name in items]
        self._shift = follower_shift(self._items)
        followers = [*self._items[self._shift :], *self._items[: self._shift]]
        self._reseeded = [
            replace(item, seed=follower.seed)
            for item, follower in zip(self._items, followers, strict=True)
        ]
        self._probes = chosen_probe_set(model.results, cells, *study.components.image_size)
        self._recorded = alone(study, engine, study.config.batch)

    def block(self, start: int) -> dict[str, Tensor]:
        """Generate the block of items from ``start`` with their own seeds and with others."""
        study, part = self._study, slice(start, start + BLOCK)
        tasks = {name: study.tasks[name] for name in self._cells}
        chosen = {cell for table in self._cells.values() for cell in table}
        networks = {cell.network for cell in chosen}
        sources = {k: source for k, source in self._recorded.sources.items() if k in networks}
        readout = Readout(self._probes, tasks, study.device)
        output, own = study.stream(
            replace(self._recorded, sources=sources),
            self._items[part],
            [readout],
            sorted({cell.step for cell in chosen}),
        )
        bare = replace(self._recorded, sources={})
        _, reseeded = study.stream(bare, self._reseeded[part])
        tensors = {_SHIFT: torch.tensor([self._shift])}
        tensors |= {_IMAGES: (output.images * 255).round().clamp(0, 255).to(torch.uint8)}
        for kind, labels in (("own", own), ("reseeded", reseeded)):
            tensors |= {f"{kind}.{name}": value for name, value in labels.tensors().items()}
        for name, table in self._cells.items():
            for cell in table:
                read = readout.predictions[name, cell].float()
                tensors[f"read.{name}.{cell.network}.{cell.step}"] = read
        return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}


def _labels(stored: dict[str, Tensor], kind: str) -> Labels:
    prefix = f"{kind}."
    fields = {
        name.removeprefix(prefix): value
        for name, value in stored.items()
        if name.startswith(prefix)
    }
    return Labels(**fields)
