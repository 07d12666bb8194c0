"""Does an engine change what probes say? A run's stored probes on this engine's activations and on PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import UserError
from bench.networks import alone
from bench.profiling.records import ScoreChange
from bench.runs.probes import stored_probe_set
from bench.runs.results import Results, read_results
from bench.study import Study
from datasets.splits import Block
from engines.engine import Engine
from probes.probe_set import ProbeSet
from probes.readout import Readout

ROWS = 16
"""Rows per engine call."""


@dataclass(frozen=True, slots=True)
class AppliedProbes:
    """The probes of a run that read the trained network's activations, unpermuted."""

    probe_set: ProbeSet
    probed_steps: tuple[int, ...]


def stored_probes(folder: Path, study: Study, model: str) -> AppliedProbes:
    """Read them. Raises UserError when the run is of another model or sampler than the study."""
    results = read_results(folder)
    for name, ours in (("model", model), ("sampler_steps", study.config.sampler_steps)):
        if getattr(results.config, name) != ours:
            option = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{folder} has {option} {getattr(results.config, name)}, not {ours}; give {option} the run's own"
            )
    probe_set = stored_probe_set(results, study.components.image_side)
    _check(results, study, folder)
    return AppliedProbes(probe_set, results.steps)


def _check(results: Results, study: Study, folder: Path) -> None:
    unknown = [layer for layer in results.layers if layer not in study.layers]
    if unknown or not set(results.tasks) <= set(study.tasks):
        raise UserError(
            f"{folder} holds layers or tasks that this model's profile does not know; make a run anew"
        )


def scores_with(
    engine: Engine, probes: AppliedProbes, study: Study, blocks: Sequence[Block]
) -> dict[str, Tensor]:
    """Per task, the headline score of every stored probe, cells x images, on the engine's own trajectory."""
    recorded = alone(study, engine, ROWS)
    tasks = {name: study.tasks[name] for name in probes.probe_set.probes}
    tables: dict[str, list[Tensor]] = {name: [] for name in tasks}
    for block in blocks:
        readout = Readout(probes.probe_set, tasks)
        study.stream(recorded, block.items, [readout], probes.probed_steps)
        for name, table in readout.scores().items():
            tables[name].append(table[: len(probes.probe_set.probes[name]), 0])
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
