"""Generate some test items of a run again, and keep what its stored probes read at every step.

Two images are generated for each item i: with its own seed, whose activations the run's best
probes read, and with the seed of the item that follows it. The second image shares the prompt of
item i and the noise of its follower, so that the same images are a control of another seed for one
item and a control of another prompt for the other.

The readings of a model are kept in one file per model, and read again by the same command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.across.models import Model
from bench.across.shared import Shared
from bench.errors import UserError
from bench.networks import alone
from bench.registry import plugin
from bench.runs.probes import chosen_probe_set
from bench.runs.reopen import reopened
from bench.runs.results import TaskResults
from bench.study import Study
from datasets.atomic_write import atomic_write
from datasets.items import Item
from datasets.labels import Labels, concatenate
from engines.cache import key_of
from extract.networks import CLEAN, INPUT, TRAINED
from extract.shards import set_default_permissions
from extract.stream import RecordedModel
from probes.probe_set import Cell
from probes.readout import Readout
from probes.task import Task

BLOCK = 8
"""Items that are generated together."""
READ = (TRAINED, INPUT, CLEAN)
"""Whose probes are read: of activations, the latent itself, the predicted clean latent."""
_FORMAT = 1
_IMAGES = "images"


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
    """Of the images with the prompt of item i and the seed of item i + 1 (of item 0 for the last).
    """
    predictions: dict[tuple[str, Cell], Tensor]
    """Task and cell -> n x tokens x channels; the best cell of each network and step."""

    @property
    def other_prompt(self) -> Labels:
        """Of the images with the seed of item i and the prompt of item i - 1."""
        return self.reseeded.take([*range(-1, len(self.items) - 1)])

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
    path = folder / f"{model.name}-{key[:12]}.safetensors"
    stored = _stored(path)
    if stored is None:
        study, engine = reopened(model.results, threads)
        recorded = alone(study, engine, study.config.batch)
        stored = _generated(study, recorded, model, items, cells)
        _write(path, stored)
    return Readings(
        model,
        tuple(items),
        {name: plugin("task", name) for name in shared.tasks},
        stored[_IMAGES],
        _labels(stored, "own"),
        _labels(stored, "reseeded"),
        {
            (name, cell): stored[f"read.{name}.{cell.network}.{cell.step}"]
            for name, chosen in cells.items()
            for cell in chosen
        },
    )


def _cells(task: TaskResults) -> list[Cell]:
    """Return the best cell of each network and step, chosen on training images."""
    steps = sorted({cell.step for cell in task.where(network=TRAINED)})
    found = (
        task.best(network=network, step=step, probe=task.gain_probe)
        for network in READ
        for step in steps
    )
    return [cell for cell in found if cell is not None]


def _generated(
    study: Study,
    recorded: RecordedModel,
    model: Model,
    items: Sequence[str],
    cells: dict[str, list[Cell]],
) -> dict[str, Tensor]:
    by_id = {item.id: item for block in study.test for item in block.items}
    chosen = [by_id[name] for name in items]
    probe_set = chosen_probe_set(model.results, cells, *study.components.image_size)
    tasks = {name: study.tasks[name] for name in cells}
    networks = {cell.network for table in cells.values() for cell in table}
    kept = {name: source for name, source in recorded.sources.items() if name in networks}
    steps = sorted({cell.step for table in cells.values() for cell in table})
    images, own, parts = [], [], []
    for block in _blocks(chosen):
        readout = Readout(probe_set, tasks, study.device)
        output, labels = study.stream(replace(recorded, sources=kept), block, [readout], steps)
        images.append((output.images * 255).round().clamp(0, 255).to(torch.uint8))
        own.append(labels)
        parts.append(
            {(name, x): readout.predictions[name, x] for name in cells for x in cells[name]}
        )
    followers = [*chosen[1:], chosen[0]]
    other = [
        replace(item, seed=follower.seed) for item, follower in zip(chosen, followers, strict=True)
    ]
    bare = replace(recorded, sources={})
    reseeded = [study.stream(bare, block)[1] for block in _blocks(other)]
    tensors = {_IMAGES: torch.cat(images)}
    for kind, labels in (("own", concatenate(own)), ("reseeded", concatenate(reseeded))):
        tensors |= {f"{kind}.{name}": value for name, value in labels.tensors().items()}
    for name, table in cells.items():
        for cell in table:
            read = torch.cat([part[name, cell] for part in parts]).float()
            tensors[f"read.{name}.{cell.network}.{cell.step}"] = read
    return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}


def _blocks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + BLOCK] for start in range(0, len(items), BLOCK))


def _labels(stored: dict[str, Tensor], kind: str) -> Labels:
    prefix = f"{kind}."
    fields = {
        name.removeprefix(prefix): value
        for name, value in stored.items()
        if name.startswith(prefix)
    }
    return Labels(**fields)


def _stored(path: Path) -> dict[str, Tensor] | None:
    """Return what an earlier call kept; None where there is nothing, or nothing that is whole."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError):
        return None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            save_file(tensors, partial)
            set_default_permissions(partial)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {path} ({error}); choose another --out") from error
