"""The run folder's files: written once by a run, read by everything that a person looks at.

config.json          the options, and the fingerprint of everything that determines the scores
environment.json     machine, versions, commit, command
cells.csv            one row per cell: where, when, which probe, penalty, threshold, scores with 95 % intervals
scores.safetensors   per task, every metric of every cell for every test picture (cells x metrics x pictures), and
                     pictures/foreground, the share of each test picture that the salient object covers
probes.safetensors   weights and intercepts, named task/network/layer/step/probe/draw
learning.csv         how well the best layers' probes do from fewer training pictures (written by bench/learning.py)
costs.csv            per network and step: latency per row and memory
strips.safetensors   a few test pictures on their way out of noise, with labels and readings
run.json             schema, tasks, metrics, items, totals; written last: a folder with it is finished
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.environment import environment
from bench.errors import MistakeError
from bench.folder import CONFIG, RUN, RunFolder
from probes.bank import ALWAYS, Bank, Cell
from probes.bootstrap import intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bench.study import Study

SCHEMA = 1
FOREGROUND_AREA = "pictures/foreground"
_CELL_COLUMNS = (
    "task", "network", "layer", "step", "probe", "draw", "side", "penalty", "at_edge", "cv_loss", "threshold",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskResults:
    """Cells and per-picture scores of one task."""

    name: str
    cells: tuple[Cell, ...]
    cv_loss: NDArray[np.float64]
    """Per cell; nan where nothing was fit."""
    thresholds: NDArray[np.float64]
    metrics: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    unit: str
    scores: NDArray[np.float64]
    """cells x metrics x pictures."""

    @property
    def headline(self) -> str:
        """The first metric."""
        return self.metrics[0]

    def score(self, cell: Cell, metric: str | None = None) -> NDArray[np.float64]:
        """Per-picture scores of a cell, by default of the headline metric."""
        row: NDArray[np.float64] = self.scores[self.cells.index(cell), self.metrics.index(metric or self.headline)]
        return row

    def where(self, **wanted: object) -> list[Cell]:
        """The cells with these attributes, such as ``network="trained", step=4``."""
        return [cell for cell in self.cells if all(getattr(cell, name) == value for name, value in wanted.items())]

    def best(self, **wanted: object) -> Cell | None:
        """Of the cells with these attributes, the one with the least cross-validated loss on training pictures."""
        fitted = [(self.cv_loss[self.cells.index(cell)], cell) for cell in self.where(**wanted)]
        known = [(loss, cell) for loss, cell in fitted if np.isfinite(loss)]
        return min(known, key=lambda pair: pair[0])[1] if known else None


@dataclass(frozen=True, slots=True)
class Results:
    """A finished run, read back."""

    path: Path
    options: dict[str, Any]
    fingerprint: str
    environment: dict[str, Any]
    facts: dict[str, Any]
    tasks: dict[str, TaskResults]
    costs: list[dict[str, str]]
    strips: dict[str, NDArray[Any]]
    foreground: NDArray[np.float64] | None = None
    """Share of every test picture that the salient object covers; None in a run of an older version."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Probed steps, counted from 0."""
        return tuple(self.facts["steps"])

    @property
    def layers(self) -> tuple[str, ...]:
        """Tapped layers in the order of computation."""
        return tuple(self.facts["layers"])

    @property
    def random_networks(self) -> tuple[str, ...]:
        """Names of the random networks."""
        return tuple(self.facts["networks"][1:])


def write_results(
    folder: RunFolder,
    study: Study,
    bank: Bank,
    scores: dict[str, Tensor],
    costs: Sequence[Tensor],
    strips: dict[str, Tensor],
    seconds: float,
) -> None:
    """Write every file of a finished run, ``run.json`` last."""
    import torch
    from safetensors.torch import save_file

    path = folder.path
    try:
        (path / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
        save_file({name: value.contiguous() for name, value in scores.items()}, path / "scores.safetensors")
        save_file(_probe_tensors(bank), path / "probes.safetensors")
        save_file(
            {name.removeprefix("strip/"): value for name, value in strips.items()},
            path / "strips.safetensors",
        )
        _write_cells(path / "cells.csv", study, bank, {name: value.numpy() for name, value in scores.items()})
        _write_costs(path / "costs.csv", torch.cat(list(costs)).numpy(), ("trained", *study.random_names))
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
            "networks": ["trained", *study.random_names],
            "guidance": study.guidance,
            "train_items": [item.id for block in study.train for item in block.items],
            "test_items": [item.id for block in study.test for item in block.items],
            "strip_prompts": [item.prompt for item in study.test[0].items],
            "seconds": round(seconds, 2),
            "peak_bytes": _peak_bytes(),
        }
        partial = path / f"{RUN}.partial"
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        partial.replace(path / RUN)
    except (OSError, SafetensorError) as error:
        raise MistakeError(
            f"cannot write the results to {path} ({error}); mend it and run again: nothing is lost"
        ) from error


def read_results(path: Path) -> Results:
    """Read a run folder. Raises MistakeError when it is none, is unfinished, or does not hold together."""
    if not (path / RUN).exists():
        state = (
            "is an unfinished run; finish it by running its command again"
            if (path / CONFIG).exists()
            else "is no run folder"
        )
        raise MistakeError(f"{path} {state}")
    try:
        config, environment_, facts = (
            json.loads((path / name).read_text(encoding="utf-8")) for name in (CONFIG, "environment.json", RUN)
        )
        if facts["schema"] != SCHEMA:
            raise MistakeError(f"{path} has schema {facts['schema']}, this version reads {SCHEMA}; run it again")
        rows = _read_csv(path / "cells.csv")
        scores = load_file(path / "scores.safetensors")
        tasks = {name: _task_results(name, facts["tasks"][name], rows, scores[name]) for name in facts["tasks"]}
        strips = load_file(path / "strips.safetensors")
        costs = _read_csv(path / "costs.csv")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise MistakeError(
            f"the run folder {path} is damaged ({error}); run its command again in another --out"
        ) from error
    return Results(
        path, config["options"], config["fingerprint"], environment_, facts, tasks, costs, strips,
        scores.get(FOREGROUND_AREA),
    )  # fmt: skip


def _task_results(
    name: str, facts: dict[str, Any], rows: list[dict[str, str]], scores: NDArray[np.float64]
) -> TaskResults:
    mine = [row for row in rows if row["task"] == name]
    cells = tuple(
        Cell(
            row["network"],
            row["layer"],
            int(row["step"]) - 1 if row["step"] else ALWAYS,
            row["probe"],
            int(row["draw"]),
            int(row["side"]),
        )
        for row in mine
    )
    if scores.shape[0] != len(cells):
        raise ValueError(f"{name} has {len(cells)} cells and scores of {scores.shape[0]}")
    number = {column: np.array([float(row[column] or "nan") for row in mine]) for column in ("cv_loss", "threshold")}
    return TaskResults(
        name, cells, number["cv_loss"], number["threshold"], tuple(facts["metrics"]),
        tuple(facts["higher_is_better"]), facts["unit"], scores,
    )  # fmt: skip


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write_cells(path: Path, study: Study, bank: Bank, scores: dict[str, NDArray[np.float64]]) -> None:
    metrics = list(dict.fromkeys(metric.name for task in study.tasks.values() for metric in task.metrics))
    with path.open("w", newline="", encoding="utf-8") as stream:
        columns = [*_CELL_COLUMNS, *(f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high"))]
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        for name, task in study.tasks.items():
            spans = [intervals(scores[name][:, column]) for column in range(len(task.metrics))]
            for index, cell in enumerate(bank.cells(name)):
                row: dict[str, object] = {"task": name, **asdict(cell)}
                row["step"] = cell.step + 1 if cell.step != ALWAYS else ""
                probe = bank.probes[name].get(cell)
                if probe is not None:
                    row |= {
                        "penalty": f"{probe.penalty:.6g}",
                        "at_edge": int(probe.at_edge),
                        "cv_loss": f"{probe.cv_loss:.9g}",
                    }
                if cell in bank.thresholds.get(name, {}):
                    row["threshold"] = bank.thresholds[name][cell]
                for metric, span in zip(task.metrics, spans, strict=True):
                    for end, values in (("", span.mean), ("_low", span.low), ("_high", span.high)):
                        row[f"{metric.name}{end}"] = f"{values[index]:.6g}"
                writer.writerow(row)


def _write_costs(path: Path, costs: NDArray[np.float64], networks: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["network", "step", "calls", "rows", "median_ms_per_row", "p90_ms_per_row", "peak_mib"])
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


def _probe_tensors(bank: Bank) -> dict[str, Tensor]:
    tensors = {}
    for name, probes in bank.probes.items():
        for cell, probe in probes.items():
            step = "always" if cell.step == ALWAYS else str(cell.step + 1)
            stem = f"{name}/{cell.network}/{cell.layer}/{step}/{cell.probe}/{cell.draw}"
            tensors[f"{stem}/weights"] = probe.weights.contiguous()
            tensors[f"{stem}/intercept"] = probe.intercept.contiguous()
    return tensors


def _peak_bytes() -> int:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
