"""Read the files of a run folder.

config.json          the options, and the fingerprint of everything that determines the scores
environment.json     machine, versions, commit, command
cells.csv            one row per cell: network, layer, step, probe, penalty, threshold, and scores
                     with 95 % intervals; the column side is ``16`` for 16 x 16 tokens, and
                     ``12x16`` for 12 rows of 16; the column step counts from 1, and run.json has
                     the noise level of each step of the sampler (timesteps, sigmas, log_snr)
scores.safetensors   per task, every metric of every cell for every test image (cells x metrics x
                     images), and images/foreground, the share of each image that the object covers
probes.safetensors   weights, intercepts and patterns (for edits), named
                     task/network/layer/step/probe/draw
learning.csv         scores from fewer training images (see runs/learning_curves.py)
costs.csv            per network and step: latency per row and memory
calls.safetensors    its clock readings in order: step, network, rows, seconds, resident bytes
strips.safetensors   a few test images by step, with labels and predictions
run.json             tasks, items, cost, and checksums of the tables and tensors above (see
                     runs/records.py); written last: a folder with it is finished
findings.json        comparisons, emergence and other findings (see analysis/findings.py)
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.config import Config
from bench.environment import Environment
from bench.errors import UserError
from bench.options.validation import OtherVersion, read_record, remedy
from bench.runs.folder import CONFIG, RUN, options_of, refuse_changed
from bench.runs.overlap import Overlap
from bench.runs.records import RunRecord, StoredConfig
from bench.steps import number_of, step_of
from datasets.grid import Grid
from extract.networks import TRAINED
from probes.probe_set import ACTIVATIONS, ALWAYS, WITH_POSITION, Cell
from probes.score import sign_of

ENVIRONMENT = "environment.json"
PROBES = "probes.safetensors"
TABLES = ("cells.csv", "scores.safetensors", "costs.csv", "strips.safetensors", "learning.csv")
"""Files that are checked whenever a run is read; the two above are checked when they are used."""
FOREGROUND_AREA = "images/foreground"


@dataclass(frozen=True)
class TaskResults:
    """Cells and per-image scores of one task."""

    name: str
    cells: tuple[Cell, ...]
    cv_loss: NDArray[np.float64]
    """Per cell; nan where nothing was fitted."""
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

    def row(self, cell: Cell) -> int:
        """Return the place of a cell among :attr:`cells`. Raises KeyError if it is not there."""
        return self._rows[cell]

    @cached_property
    def _rows(self) -> dict[Cell, int]:
        return {cell: row for row, cell in enumerate(self.cells)}

    @property
    def gain_probe(self) -> str:
        """The kind of probe that is compared with baselines without activations."""
        with_position = self.where(network=TRAINED, probe=WITH_POSITION)
        return WITH_POSITION if with_position else ACTIVATIONS

    def score(self, cell: Cell, metric: str | None = None) -> NDArray[np.float64]:
        """Return per-image scores of a cell, by default of the headline metric."""
        row: NDArray[np.float64] = self.scores[
            self.row(cell), self.metrics.index(metric or self.headline)
        ]
        return row

    def sign(self, metric: str | None = None) -> float:
        """Return 1 or -1, by which scores are multiplied so that higher is better."""
        return sign_of(self.higher_is_better[self.metrics.index(metric or self.headline)])

    def where(self, **attributes: object) -> list[Cell]:
        """Return the cells with these attributes, such as ``network="trained", step=4``."""
        names = tuple(sorted(attributes))
        if names not in self._groups:
            groups = self._groups[names] = defaultdict(list)
            for cell in self.cells:
                groups[tuple(getattr(cell, name) for name in names)].append(cell)
        return list(self._groups[names].get(tuple(attributes[name] for name in names), ()))

    @cached_property
    def _groups(self) -> dict[tuple[str, ...], dict[tuple[object, ...], list[Cell]]]:
        """By names of attributes, the cells of every combination of their values."""
        return {}

    def best(self, **attributes: object) -> Cell | None:
        """Return the cell with these attributes that has the least cross-validated loss."""
        return self.least_loss(self.where(**attributes))

    def least_loss(self, cells: Iterable[Cell]) -> Cell | None:
        """Return the cell with the least cross-validated loss; None if none was fitted."""
        losses = {cell: self.cv_loss[self.row(cell)] for cell in cells}
        fitted = [cell for cell, loss in losses.items() if np.isfinite(loss)]
        return min(fitted, key=losses.__getitem__) if fitted else None


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """A finished run; equal only to itself, so that findings can be cached by it."""

    path: Path
    config: Config
    fingerprint: str
    environment: Environment
    record: RunRecord
    tasks: dict[str, TaskResults]
    costs: list[dict[str, str]]
    """Rows of ``costs.csv``."""
    strips: dict[str, NDArray[Any]]
    foreground: NDArray[np.float64]
    """Share of every test image that the salient object covers."""
    facts: Mapping[str, str | int | float]
    """Everything that determines the scores; long facts as a hash."""
    overlap: Overlap | None
    """What training and test items share; None in runs of earlier versions."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Probed steps, counted from 0."""
        return self.record.steps

    @property
    def sigmas(self) -> tuple[float, ...] | None:
        """Sigma of the latents that each probed step reads, in the sampler's own scale.

        None for a run of an earlier version, which did not record noise levels.
        """
        sigmas = self.record.sigmas
        return tuple(sigmas[step] for step in self.steps) if sigmas else None

    @property
    def log_snr(self) -> tuple[float, ...] | None:
        """Log-SNR of the latents that each probed step reads, comparable between samplers.

        It rises with the steps: minus infinity for pure noise, infinity where sigma is 0. None for
        a run of an earlier version, which did not record noise levels.
        """
        if not self.record.log_snr or not self.record.sigmas:
            return None
        levels = (self.record.log_snr[step] for step in self.steps)
        return tuple(
            level if level is not None else -math.inf if sigma > 0 else math.inf
            for level, sigma in zip(levels, self.sigmas or (), strict=True)
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Tapped layers in the order of computation."""
        return self.record.layers

    @property
    def item_keys(self) -> dict[str, str]:
        """Test item -> hash of its prompt and seed; empty in runs of earlier versions."""
        return dict(zip(self.record.test_items, self.record.item_keys, strict=False))

    @property
    def untrained(self) -> bool:
        """Whether the weights are random, so that no score describes the model."""
        return self.config.weights == "random"

    @property
    def processes(self) -> int:
        """Processes that worked on the run, one after the other or side by side."""
        return self.record.processes

    @property
    def threads(self) -> int:
        """CPU threads of each process."""
        return self.record.threads

    @property
    def world(self) -> int:
        """Ranks that worked side by side."""
        return self.record.world

    @property
    def random_networks(self) -> tuple[str, ...]:
        """Names of the networks of permuted weights on the trained network's latents."""
        return self.family("random")

    def family(self, name: str) -> tuple[str, ...]:
        """Return the networks of a name: ``random`` selects ``random-1``, ``random-2``, ..."""
        return tuple(
            network
            for network in self.record.networks
            if re.fullmatch(rf"{re.escape(name)}(-\d+)?", network)
        )


def read_results(path: Path) -> Results:
    """Read a run folder. Raises UserError when it is none, is unfinished, or is damaged."""
    if not (path / RUN).exists():
        state = (
            "is an unfinished run; finish it by running its command again"
            if (path / CONFIG).exists()
            else "is no run folder and holds no ledger"
        )
        raise UserError(f"{path} {state}")
    try:
        record = read_record(RunRecord, path / RUN)
        stored = read_record(StoredConfig, path / CONFIG)
        environment = read_record(Environment, path / ENVIRONMENT)
        refuse_changed(path, record, TABLES)
        rows = _read_csv(path / "cells.csv")
        scores = load_file(path / "scores.safetensors")
        tasks = {name: _task_results(name, record, rows, scores[name]) for name in record.tasks}
        return Results(
            path,
            options_of(path, stored),
            stored.fingerprint,
            environment,
            record,
            tasks,
            _read_csv(path / "costs.csv"),
            load_file(path / "strips.safetensors"),
            scores[FOREGROUND_AREA],
            stored.facts,
            stored.overlap,
        )
    except OtherVersion as error:
        what = remedy(error, "run its command again in another --out")
        raise UserError(f"the run folder {path} cannot be read ({error}); {what}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise UserError(
            f"the run folder {path} is damaged ({error}); run its command again in another --out"
        ) from error


def _task_results(
    name: str, record: RunRecord, rows: list[dict[str, str]], scores: NDArray[np.float64]
) -> TaskResults:
    task = record.tasks[name]
    rows = [row for row in rows if row["task"] == name]
    cells = tuple(
        Cell(
            row["network"],
            row["layer"],
            step_of(int(row["step"])) if row["step"] else ALWAYS,
            row["probe"],
            int(row["draw"]),
            Grid.parse(row["side"]),
        )
        for row in rows
    )
    expected = len(cells), len(task.metrics), len(record.test_items)
    if scores.shape != expected:
        raise ValueError(f"scores of {name} (cells, metrics, items): {scores.shape} not {expected}")
    cv_loss, thresholds = (
        np.array([float(row[column] or "nan") for row in rows])
        for column in ("cv_loss", "threshold")
    )
    return TaskResults(
        name, cells, cv_loss, thresholds, task.metrics, task.higher_is_better, task.unit, scores
    )


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def probe_name(task: str, cell: Cell) -> str:
    """Return the beginning of the names of a probe's tensors in ``probes.safetensors``."""
    step = "always" if cell.step == ALWAYS else str(number_of(cell.step))
    return f"{task}/{cell.network}/{cell.layer}/{step}/{cell.probe}/{cell.draw}"
