"""The run folder's files: written once by a run, read by everything that a person looks at.

config.json          the options, and the fingerprint of everything that determines the scores
environment.json     machine, versions, commit, command
cells.csv            one row per cell: where, when, which probe, penalty, threshold, scores with 95 % intervals
scores.safetensors   per task, every metric of every cell for every test image (cells x metrics x images), and
                     images/foreground, the share of each test image that the salient object covers
probes.safetensors   weights, intercepts and patterns (for edits), named task/network/layer/step/probe/draw
learning.csv         how well the best layers' probes do from fewer training images (see runs/learning_curves.py)
costs.csv            per network and step: latency per row and memory
calls.safetensors    every clock reading behind it, in order: step, network, rows, seconds, resident bytes
strips.safetensors   a few test images on their way out of noise, with labels and readings
run.json             schema, tasks, metrics, items, totals, checksums of the tables and tensors above (not of the
                     first two files); written last: a folder with it is finished
findings.json        what was found in them: see bench/analysis/findings.py

Totals are of all processes that worked on the run: seconds added up, the peak of the one that needed most memory,
the threads of each, and the ranks that worked side by side.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.errors import UserError
from bench.runs.folder import CONFIG, RUN, refuse_changed, refuse_malformed
from probes.probe_set import ALWAYS, Cell
from probes.score import sign_of

SCHEMA = 3
CALLS, PROBES = "calls.safetensors", "probes.safetensors"
TABLES = ("cells.csv", "scores.safetensors", "costs.csv", "strips.safetensors", "learning.csv")
"""What is read, and checked, whenever a run is; the other two when they are needed."""
FOREGROUND_AREA = "images/foreground"


@dataclass(frozen=True, slots=True)
class TaskResults:
    """Cells and per-image scores of one task."""

    name: str
    cells: tuple[Cell, ...]
    cv_loss: NDArray[np.float64]
    """Per cell; nan where nothing was fit."""
    thresholds: NDArray[np.float64]
    metrics: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    unit: str
    scores: NDArray[np.float64]
    """cells x metrics x images."""

    @property
    def headline(self) -> str:
        """The first metric."""
        return self.metrics[0]

    def score(self, cell: Cell, metric: str | None = None) -> NDArray[np.float64]:
        """Per-image scores of a cell, by default of the headline metric."""
        row: NDArray[np.float64] = self.scores[
            self.cells.index(cell), self.metrics.index(metric or self.headline)
        ]
        return row

    def sign(self, metric: str | None = None) -> float:
        """What scores are multiplied by so that higher is better, by default those of the headline metric."""
        return sign_of(self.higher_is_better[self.metrics.index(metric or self.headline)])

    def where(self, **wanted: object) -> list[Cell]:
        """The cells with these attributes, such as ``network="trained", step=4``."""
        return [
            cell
            for cell in self.cells
            if all(getattr(cell, name) == value for name, value in wanted.items())
        ]

    def best(self, **wanted: object) -> Cell | None:
        """Of the cells with these attributes, the one with the least cross-validated loss on training images."""
        fitted = [(self.cv_loss[self.cells.index(cell)], cell) for cell in self.where(**wanted)]
        known = [(loss, cell) for loss, cell in fitted if np.isfinite(loss)]
        return min(known, key=lambda pair: pair[0])[1] if known else None


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """A finished run, read back; equal to itself alone, so that what is derived from it can be kept by it."""

    path: Path
    options: dict[str, Any]
    fingerprint: str
    environment: dict[str, Any]
    facts: dict[str, Any]
    tasks: dict[str, TaskResults]
    costs: list[dict[str, str]]
    strips: dict[str, NDArray[Any]]
    foreground: NDArray[np.float64]
    """Share of every test image that the salient object covers."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Probed steps, counted from 0."""
        return tuple(self.facts["steps"])

    @property
    def layers(self) -> tuple[str, ...]:
        """Tapped layers in the order of computation."""
        return tuple(self.facts["layers"])

    @property
    def untrained(self) -> bool:
        """Whether the weights are random, so that scores say nothing about the model."""
        return bool(self.options.get("weights", "trained") == "random")

    @property
    def processes(self) -> int:
        """How many processes made it, one after the other or side by side."""
        return int(self.facts["processes"])

    @property
    def threads(self) -> int:
        """CPU threads of each process."""
        return int(self.facts["threads"])

    @property
    def world(self) -> int:
        """Workers that worked side by side."""
        return int(self.facts["world"])

    @property
    def random_networks(self) -> tuple[str, ...]:
        """Names of the networks of permuted weights that saw the trained one's latents."""
        return self.family("random")

    def family(self, name: str) -> tuple[str, ...]:
        """The networks of a name, which are several where seeds differ: ``random`` stands for ``random-1`` and on."""
        return tuple(
            network
            for network in self.facts["networks"]
            if re.fullmatch(rf"{re.escape(name)}(-\d+)?", network)
        )


def read_results(path: Path) -> Results:
    """Read a run folder. Raises UserError when it is none, is unfinished, or does not hold together."""
    if not (path / RUN).exists():
        state = (
            "is an unfinished run; finish it by running its command again"
            if (path / CONFIG).exists()
            else "is no run folder"
        )
        raise UserError(f"{path} {state}")
    try:
        config, environment_, facts = (
            json.loads((path / name).read_text(encoding="utf-8"))
            for name in (CONFIG, "environment.json", RUN)
        )
        if facts["schema"] != SCHEMA:
            raise UserError(
                f"{path} has schema {facts['schema']}, this version reads {SCHEMA}; run it again"
            )
        refuse_malformed(config["options"], environment_, facts)
        refuse_changed(path, facts, TABLES)
        rows = _read_csv(path / "cells.csv")
        scores = load_file(path / "scores.safetensors")
        tasks = {
            name: _task_results(name, facts["tasks"][name], rows, scores[name])
            for name in facts["tasks"]
        }
        strips = load_file(path / "strips.safetensors")
        costs = _read_csv(path / "costs.csv")
        return Results(
            path, config["options"], config["fingerprint"], environment_, facts, tasks, costs, strips,
            scores[FOREGROUND_AREA],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise UserError(
            f"the run folder {path} is damaged ({error}); run its command again in another --out"
        ) from error


def read_calls(path: Path) -> NDArray[np.float64]:
    """Every clock reading of a run, calls x (step, network, rows, seconds, resident bytes), in order."""
    try:
        calls: NDArray[np.float64] = load_file(path / CALLS)["calls"]
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(
            f"{path / CALLS} cannot be read ({error}); run again in another --out"
        ) from error
    return calls


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
    if scores.shape[:2] != (len(cells), len(facts["metrics"])):
        raise ValueError(
            f"{name} has {len(cells)} cells, {len(facts['metrics'])} metrics and scores {scores.shape}"
        )
    number = {
        column: np.array([float(row[column] or "nan") for row in mine])
        for column in ("cv_loss", "threshold")
    }
    return TaskResults(
        name, cells, number["cv_loss"], number["threshold"], tuple(facts["metrics"]),
        tuple(facts["higher_is_better"]), facts["unit"], scores,
    )  # fmt: skip


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def probe_name(task: str, cell: Cell) -> str:
    """What the names of a probe's tensors begin with in ``probes.safetensors``."""
    step = "always" if cell.step == ALWAYS else str(cell.step + 1)
    return f"{task}/{cell.network}/{cell.layer}/{step}/{cell.probe}/{cell.draw}"
