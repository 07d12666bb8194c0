"""Does an engine change what probes say? A run's stored probes on this engine's activations and on PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bench.errors import MistakeError
from bench.networks import alone
from bench.profiling.records import ScoreChange
from bench.runs.folder import refuse_changed
from bench.runs.results import PROBES, Results, read_results
from bench.study import Study
from datasets.splits import Block
from engines.engine import Engine
from extract.networks import TRAINED
from extract.stream import stream
from probes.probe_set import ALWAYS, Bank, Cell, Solved
from probes.readout import Readout

ROWS = 16
"""Rows per engine call."""


@dataclass(frozen=True, slots=True)
class StoredProbes:
    """The probes of a run that read the trained network's activations, unpermuted."""

    bank: Bank
    probed_steps: tuple[int, ...]


def stored_probes(folder: Path, study: Study, model: str) -> StoredProbes:
    """Read them. Raises MistakeError when the run is of another model or sampler than the study."""
    results = read_results(folder)
    for name, ours in (("model", model), ("sampler_steps", study.config.sampler_steps)):
        if results.options[name] != ours:
            option = f"--{name.replace('_', '-')}"
            raise MistakeError(
                f"{folder} has {option} {results.options[name]}, not {ours}; give {option} the run's own"
            )
    probes: dict[str, dict[Cell, Solved]] = {}
    thresholds: dict[str, dict[Cell, float]] = {}
    mean_map: dict[str, Tensor] = {}
    size = study.components.picture_side
    try:
        refuse_changed(folder, results.facts, (PROBES,))
        tensors = load_file(folder / PROBES)
    except (OSError, SafetensorError) as error:
        raise MistakeError(f"cannot read the probes of {folder} ({error}); run it again") from error
    for name, task in results.tasks.items():
        probes[name], thresholds[name] = {}, {}
        for index, cell in enumerate(task.cells):
            if cell.network == TRAINED and cell.draw == 0 and cell.step != ALWAYS:
                probes[name][cell] = _solved(tensors, name, cell)
                thresholds[name][cell] = float(task.thresholds[index])
        outputs = len(next(iter(probes[name].values())).intercept)
        # Of the baselines that a bank also scores; they read no engine, and are left out below.
        mean_map[name] = torch.zeros(outputs, size, size, dtype=torch.float64)
    _check(results, study, folder)
    return StoredProbes(Bank(probes, mean_map, thresholds), results.steps)


def _check(results: Results, study: Study, folder: Path) -> None:
    unknown = [layer for layer in results.layers if layer not in study.layers]
    if unknown or not set(results.tasks) <= set(study.tasks):
        raise MistakeError(f"{folder} holds layers or tasks that this model's profile does not know; make a run anew")


def _solved(tensors: dict[str, Tensor], task: str, cell: Cell) -> Solved:
    stem = f"{task}/{cell.network}/{cell.layer}/{cell.step + 1}/{cell.probe}/{cell.draw}"
    try:
        weights, intercept = tensors[f"{stem}/weights"], tensors[f"{stem}/intercept"]
    except KeyError as error:
        raise MistakeError(f"the run's probes lack {error}; make the run again") from error
    return Solved(weights, intercept, penalty=float("nan"), at_edge=False, cv_loss=float("nan"))


def scores_with(engine: Engine, probes: StoredProbes, study: Study, blocks: Sequence[Block]) -> dict[str, Tensor]:
    """Per task, the headline score of every stored probe, cells x pictures, on the engine's own trajectory."""
    subject = alone(study, engine, ROWS)
    tasks = {name: study.tasks[name] for name in probes.bank.probes}
    tables: dict[str, list[Tensor]] = {name: [] for name in tasks}
    for block in blocks:
        readout = Readout(probes.bank, tasks)
        given, read = study.given(block.items)
        stream(subject, given, [readout], probes.probed_steps, read)
        for name, table in readout.scores().items():
            tables[name].append(table[: len(probes.bank.probes[name]), 0])
    return {name: torch.cat(parts, dim=-1) for name, parts in tables.items()}


def changes(truth: dict[str, Tensor], ours: dict[str, Tensor], study: Study) -> list[ScoreChange]:
    """How far the scores moved, per task."""
    found = []
    for name, reference in truth.items():
        moved = (ours[name] - reference).nanmean(-1)
        metric = study.tasks[name].metrics[0].name
        mean, largest = float(moved.nanmean()), float(moved.abs().nan_to_num().max())
        found.append(ScoreChange(name, metric, len(moved), reference.shape[1], mean, largest))
    return found
