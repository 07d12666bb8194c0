"""Write a finished run into its folder; ``bench/runs/results.py`` says what each file is and reads it back."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bench.environment import environment
from bench.errors import UserError
from bench.runs.checkpoints import RunCost
from bench.runs.folder import RUN, SUMS, RunFolder, sums_of
from bench.runs.results import CALLS, PROBES, SCHEMA, TABLES, probe_name
from bench.study import Study
from datasets.atomic_write import atomic_write
from extract.shards import set_default_permissions
from extract.stream import RecordedModel
from probes.bootstrap import intervals
from probes.probe_set import ALWAYS, ProbeSet

_CELL_COLUMNS = (
    "task", "network", "layer", "step", "probe", "draw", "side", "penalty", "at_edge", "cv_loss", "threshold",
)  # fmt: skip


def write_results(
    folder: RunFolder,
    study: Study,
    recorded: RecordedModel,
    probe_set: ProbeSet,
    scores: dict[str, Tensor],
    costs: Sequence[Tensor],
    strips: dict[str, Tensor],
    taken: RunCost,
    world: int,
) -> None:
    """Write every file of a finished run, which so many ranks made, ``run.json`` last."""
    path = folder.path
    try:
        (path / "environment.json").write_text(
            json.dumps(environment(), indent=2) + "\n", encoding="utf-8"
        )
        save_file(
            {name: value.contiguous() for name, value in scores.items()},
            path / "scores.safetensors",
        )
        save_file(_probe_tensors(probe_set), path / PROBES)
        save_file(
            {name.removeprefix("strip/"): value for name, value in strips.items()},
            path / "strips.safetensors",
        )
        _write_cells(
            path / "cells.csv",
            study,
            probe_set,
            {name: value.numpy() for name, value in scores.items()},
        )
        calls = torch.cat(list(costs))
        save_file({"calls": calls}, path / CALLS)
        for file in path.glob("*.safetensors"):
            set_default_permissions(file)
        _write_costs(path / "costs.csv", calls.numpy(), recorded.timed)
        facts = {
            "schema": SCHEMA,
            "tasks": {
                name: {
                    "metrics": [metric.name for metric in task.metrics],
                    "higher_is_better": [metric.higher_is_better for metric in task.metrics],
                    "unit": task.unit,
                }
                for name, task in study.tasks.items()
            },
            "layers": list(study.layers),
            "steps": list(study.config.probed_steps),
            "networks": list(recorded.sources),
            "guidance": study.guidance,
            "train_items": [item.id for block in study.train for item in block.items],
            "test_items": [item.id for block in study.test for item in block.items],
            "strip_prompts": [item.prompt for item in study.test[0].items],
            "seconds": round(taken.seconds, 2),
            "peak_bytes": taken.peak_bytes,
            "processes": taken.processes,
            "threads": study.threads,
            "world": world,
            SUMS: sums_of(path, (*TABLES, CALLS, PROBES)),
        }
        with atomic_write(path / RUN) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write the results to {path} ({error}); mend it and run again: nothing is lost"
        ) from error


def _write_cells(
    path: Path, study: Study, probe_set: ProbeSet, scores: dict[str, NDArray[np.float64]]
) -> None:
    metrics = list(
        dict.fromkeys(metric.name for task in study.tasks.values() for metric in task.metrics)
    )
    with path.open("w", newline="", encoding="utf-8") as stream:
        columns = [
            *_CELL_COLUMNS,
            *(f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")),
        ]
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        for name, task in study.tasks.items():
            spans = [intervals(scores[name][:, column]) for column in range(len(task.metrics))]
            for index, cell in enumerate(probe_set.cells(name)):
                row: dict[str, object] = {"task": name, **asdict(cell)}
                row["step"] = cell.step + 1 if cell.step != ALWAYS else ""
                probe = probe_set.probes[name].get(cell)
                if probe is not None:
                    row |= {
                        "penalty": f"{probe.penalty:.6g}",
                        "at_edge": int(probe.at_edge),
                        "cv_loss": f"{probe.cv_loss:.9g}",
                    }
                if cell in probe_set.thresholds.get(name, {}):
                    row["threshold"] = probe_set.thresholds[name][cell]
                for metric, span in zip(task.metrics, spans, strict=True):
                    for end, values in (("", span.mean), ("_low", span.low), ("_high", span.high)):
                        row[f"{metric.name}{end}"] = f"{values[index]:.6g}"
                writer.writerow(row)


def _write_costs(path: Path, costs: NDArray[np.float64], networks: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["network", "step", "calls", "rows", "median_ms_per_row", "p90_ms_per_row", "peak_mib"]
        )
        for number, network in enumerate(networks):
            for step in sorted({int(step) for step in costs[costs[:, 1] == number, 0]}):
                mine = costs[(costs[:, 1] == number) & (costs[:, 0] == step)]
                per_row_ms = mine[:, 3] / mine[:, 2] * 1e3
                median, p90 = np.quantile(per_row_ms, [0.5, 0.9])
                writer.writerow(
                    [
                        network,
                        step + 1,
                        len(mine),
                        int(mine[:, 2].sum()),
                        f"{median:.4f}",
                        f"{p90:.4f}",
                        f"{mine[:, 4].max() / 2**20:.1f}",
                    ]
                )


def _probe_tensors(probe_set: ProbeSet) -> dict[str, Tensor]:
    tensors = {}
    for name, probes in probe_set.probes.items():
        for cell, probe in probes.items():
            if not np.isfinite(probe.cv_loss):
                # Nothing was fit.
                continue
            stem = probe_name(name, cell)
            tensors[f"{stem}/weights"] = probe.weights.contiguous()
            tensors[f"{stem}/intercept"] = probe.intercept.contiguous()
            if probe.pattern is not None:
                tensors[f"{stem}/pattern"] = probe.pattern.contiguous()
    return tensors
