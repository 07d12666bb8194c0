"""Write a finished run into its folder; ``bench/runs/results.py`` describes the files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bench.environment import environment
from bench.errors import UserError
from bench.runs.calls import CALLS
from bench.runs.checkpoints import RunCost
from bench.runs.conditions import conditions_of, item_key
from bench.runs.folder import RUN, RunFolder, checksums
from bench.runs.records import RUN_SCHEMA, RunRecord, StoredTask
from bench.runs.results import (
    ENVIRONMENT,
    FOREGROUND_AREA,
    PROBES,
    TABLES,
    probe_name,
)
from bench.steps import number_of
from bench.study import Study
from datasets.atomic_write import atomic_write, write_csv
from engines.samplers import finite_log_snr
from extract.shards import set_default_permissions
from extract.stream import RecordedModel
from probes.bootstrap import intervals
from probes.probe_set import ALWAYS, ProbeSet

_CELL_COLUMNS = (
    *("task", "network", "layer", "step", "probe", "draw", "side"),
    *("penalty", "at_edge", "cv_loss", "threshold"),
)
_COST_COLUMNS = (
    *("network", "step", "calls", "rows"),
    *("median_ms_per_row", "p90_ms_per_row", "peak_mib"),
)

_ENDS = ("", "_low", "_high")


@dataclass(frozen=True, slots=True)
class ScoredImages:
    """The scores of all test images."""

    scores: dict[str, Tensor]
    """Per task: cells x metrics x images."""
    foreground: Tensor
    """Share of every image that the salient object covers."""
    strips: dict[str, Tensor]
    """Images, labels and predictions of the film strips."""


def write_results(
    folder: RunFolder,
    study: Study,
    recorded: RecordedModel,
    probe_set: ProbeSet,
    scored: ScoredImages,
    cost: RunCost,
    world: int,
) -> None:
    """Write every file of a finished run of ``world`` ranks, ``run.json`` last.

    Raises UserError when a file cannot be written.
    """
    path = folder.path
    scores = {name: table.contiguous() for name, table in scored.scores.items()}
    calls = torch.cat(cost.calls)
    try:
        text = json.dumps(environment().as_json(), indent=2)
        (path / ENVIRONMENT).write_text(text + "\n", encoding="utf-8")
        save_file(scores | {FOREGROUND_AREA: scored.foreground}, path / "scores.safetensors")
        save_file(_probe_tensors(probe_set), path / PROBES)
        save_file(scored.strips, path / "strips.safetensors")
        save_file({"calls": calls}, path / CALLS)
        for file in path.glob("*.safetensors"):
            set_default_permissions(file)
        _write_cells(path / "cells.csv", study, probe_set, scores)
        write_csv(path / "costs.csv", _COST_COLUMNS, _cost_rows(calls.numpy(), recorded.timed))
        record = _record(path, study, recorded, cost, world)
        with atomic_write(path / RUN) as partial:
            text = record.model_dump_json(indent=2, by_alias=True)
            partial.write_text(text + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write the results to {path} ({error}); mend it and run again: nothing is lost"
        ) from error


def _record(
    path: Path, study: Study, recorded: RecordedModel, cost: RunCost, world: int
) -> RunRecord:
    sampler = study.components.sampler(study.config.sampler_steps)
    return RunRecord(
        schema=RUN_SCHEMA,
        tasks={
            name: StoredTask(
                metrics=tuple(metric.name for metric in task.metrics),
                higher_is_better=tuple(metric.higher_is_better for metric in task.metrics),
                unit=task.unit,
            )
            for name, task in study.tasks.items()
        },
        layers=study.layers,
        steps=study.config.probed_steps,
        networks=tuple(recorded.sources),
        guidance=study.guidance,
        timesteps=tuple(map(float, sampler.timesteps)),
        sigmas=tuple(level.sigma for level in sampler.levels),
        log_snr=finite_log_snr(sampler),
        conditions=conditions_of(study),
        train_items=tuple(item.id for block in study.train for item in block.items),
        test_items=tuple(item.id for block in study.test for item in block.items),
        item_keys=tuple(item_key(item) for block in study.test for item in block.items),
        strip_prompts=tuple(item.prompt for item in study.test[0].items),
        seconds=round(cost.seconds, 2),
        peak_bytes=cost.peak_bytes,
        processes=cost.processes,
        threads=study.threads,
        world=world,
        sha256=checksums(path, (*TABLES, CALLS, PROBES)),
    )


def _write_cells(path: Path, study: Study, probe_set: ProbeSet, scores: dict[str, Tensor]) -> None:
    metrics = dict.fromkeys(metric.name for task in study.tasks.values() for metric in task.metrics)
    columns = [*_CELL_COLUMNS, *(f"{metric}{end}" for metric in metrics for end in _ENDS)]
    write_csv(path, columns, _cell_rows(study, probe_set, scores))


def _cell_rows(
    study: Study, probe_set: ProbeSet, scores: dict[str, Tensor]
) -> Iterator[dict[str, object]]:
    for name, task in study.tasks.items():
        table = scores[name].numpy()
        spans = [intervals(table[:, column]) for column in range(len(task.metrics))]
        for index, cell in enumerate(probe_set.cells(name)):
            row: dict[str, object] = {"task": name, "network": cell.network, "layer": cell.layer}
            row |= {"probe": cell.probe, "draw": cell.draw, "side": cell.grid.key}
            row["step"] = number_of(cell.step) if cell.step != ALWAYS else ""
            probe = probe_set.probes[name].get(cell)
            if probe is not None:
                row["penalty"] = f"{probe.penalty:.6g}"
                row["at_edge"] = int(probe.at_edge)
                row["cv_loss"] = f"{probe.cv_loss:.9g}"
            if cell in probe_set.thresholds.get(name, {}):
                row["threshold"] = probe_set.thresholds[name][cell]
            for metric, span in zip(task.metrics, spans, strict=True):
                for end, values in zip(_ENDS, (span.mean, span.low, span.high), strict=True):
                    row[f"{metric.name}{end}"] = f"{values[index]:.6g}"
            yield row


def _cost_rows(calls: NDArray[np.float64], networks: Sequence[str]) -> Iterator[dict[str, object]]:
    for number, network in enumerate(networks):
        for step in sorted({int(step) for step in calls[calls[:, 1] == number, 0]}):
            chosen = calls[(calls[:, 1] == number) & (calls[:, 0] == step)]
            per_row_ms = chosen[:, 3] / chosen[:, 2] * 1e3
            median, p90 = np.quantile(per_row_ms, [0.5, 0.9])
            yield {
                "network": network,
                "step": number_of(step),
                "calls": len(chosen),
                "rows": int(chosen[:, 2].sum()),
                "median_ms_per_row": f"{median:.4f}",
                "p90_ms_per_row": f"{p90:.4f}",
                "peak_mib": f"{chosen[:, 4].max() / 2**20:.1f}",
            }


def _probe_tensors(probe_set: ProbeSet) -> dict[str, Tensor]:
    tensors = {}
    for name, probes in probe_set.probes.items():
        for cell, probe in probes.items():
            if not np.isfinite(probe.cv_loss):
                # Nothing was fitted.
                continue
            stem = probe_name(name, cell)
            tensors[f"{stem}/weights"] = probe.weights.contiguous()
            tensors[f"{stem}/intercept"] = probe.intercept.contiguous()
            if probe.pattern is not None:
                tensors[f"{stem}/pattern"] = probe.pattern.contiguous()
    return tensors
