"""Scores of a run's stored probes on an engine's activations, against PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import UserError
from bench.networks import alone
from bench.profiling.records import ScoreChange
from bench.runs.probes import stored_probe_set
from bench.runs.results import read_results
from bench.study import Study
from datasets.splits import Block
from engines.engine import Engine
from probes.probe_set import ProbeSet
from probes.readout import Readout

ROWS = 16
"""Rows per engine call."""


@dataclass(frozen=True, slots=True)
class AppliedProbes:
    """The probes of a run on the trained network's activations, without controls."""

    probe_set: ProbeSet
    probed_steps: tuple[int, ...]


def stored_probes(folder: Path, study: Study, model: str) -> AppliedProbes:
    """Read a run's probes. Raises UserError when its model or sampler differs from the study's."""
    results = read_results(folder)
    for name, value in (("model", model), ("sampler_steps", study.config.sampler_steps)):
        stored = getattr(results.config, name)
        if stored != value:
            option = _typed(name)
            raise UserError(
                f"{folder} has {option} {stored}, not {value}; set {option} to that of the run"
            )
    for name in ("size", "guidance", "sampler", "width"):
        stored = getattr(results.config, name)
        if stored != getattr(study.config, name):
            raise UserError(
                f"{folder} has {_typed(name)} {stored}, which a profile does not take; "
                "name a run without it"
            )
    probe_set = stored_probe_set(results, *study.components.image_size)
    unknown = [layer for layer in results.layers if layer not in study.layers]
    if unknown or not set(results.tasks) <= set(study.tasks):
        raise UserError(
            f"{folder} has layers or tasks that the model's profile does not know; run again"
        )
    return AppliedProbes(probe_set, results.steps)


def _typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def scores_with(
    engine: Engine, probes: AppliedProbes, study: Study, blocks: Sequence[Block]
) -> dict[str, Tensor]:
    """Per task, the headline scores (cells x images) of all probes on the own trajectory."""
    recorded = alone(study, engine, ROWS)
    tasks = {name: study.tasks[name] for name in probes.probe_set.probes}
    tables: dict[str, list[Tensor]] = {name: [] for name in tasks}
    for block in blocks:
        readout = Readout(probes.probe_set, tasks)
        study.stream(recorded, block.items, [readout], probes.probed_steps)
        for name, table in readout.scores().items():
            tables[name].append(table[: len(probes.probe_set.probes[name]), 0])
    return {name: torch.cat(parts, dim=-1) for name, parts in tables.items()}


def score_changes(
    reference: dict[str, Tensor], scores: dict[str, Tensor], study: Study
) -> list[ScoreChange]:
    """Changes of the scores against the reference, per task.

    A score that is undefined (nan) on both sides is left out; on one side alone it makes both
    changes nan.
    """
    changes = []
    for name, expected in reference.items():
        change = (scores[name] - expected).nanmean(-1)
        metric = study.tasks[name].metrics[0].name
        mean, largest = float(change.nanmean()), float(change.abs().nan_to_num().max())
        if not torch.equal(scores[name].isnan(), expected.isnan()):
            mean = largest = nan
        changes.append(ScoreChange(name, metric, len(change), expected.shape[1], mean, largest))
    return changes
