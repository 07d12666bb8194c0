"""Check an entry: generate some of its test items again, and compare image by image.

Nothing is fitted: the entry holds the probes of the cells that it claims, so the check costs one
generation of the chosen items, and cannot tell whether the probes were fitted to the training items
alone. Whole blocks of items are generated, as in the run, since bits depend on the rows of a call.
Items whose stored scores were changed after the submission come first; the others are drawn at
random.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from bench.config import config_of
from bench.environment import ENGINES, environment
from bench.errors import UserError
from bench.ledger.entries import Arrays, Entry, disagreements, read_arrays
from bench.ledger.facts import changed_facts
from bench.ledger.probes_fit import ProbesFit
from bench.ledger.records import ENTRY, PROBES, CellRecord
from bench.model import is_model
from bench.networks import recorded_model
from bench.runs.conditions import LABELER_WEIGHTS, MODEL_WEIGHTS, item_key
from bench.steps import step_of
from bench.study import Study, open_study
from datasets.grid import Grid
from datasets.prompts import is_prompt_file
from datasets.splits import Block
from probes.probe_set import ALWAYS, Cell, FittedProbe, ProbeSet
from probes.readout import Readout

TOLERANCE = 0.001
"""Largest difference of a score on another engine or machine, in the unit of the metric.

Fifty times the largest one between PyTorch and ONNX Runtime (2.1e-5 of 960 scores).
"""
THRESHOLD_MARGIN = 1e-4
"""By so much a threshold is moved there in both directions, and any score between is accepted.

A token whose prediction lies at the threshold can fall on its other side by rounding alone.
"""
_SCENEBENCH = "scenebench"
"""Its version may differ: whether the code computes the same is what is checked."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A score that could not be confirmed."""

    item: str
    task: str
    cell: CellRecord
    stored: float
    generated: float

    def __str__(self) -> str:
        """Item, cell and both numbers."""
        return (
            f"item {self.item}, {self.task}, {self.cell.words}: the entry has "
            f"{self.stored:.7g}, generated again it is {self.generated:.7g}"
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a check."""

    items: tuple[str, ...]
    """Ids of the items that were generated."""
    scores: int
    """Scores that were compared."""
    largest: float
    """Largest difference."""
    unlike: str | None
    """In what this machine differs from the entry's; None if in nothing, so that bits are equal."""
    faults: tuple[Fault, ...]
    inconsistent: tuple[str, ...]
    """In what the entry contradicts itself."""

    @property
    def passed(self) -> bool:
        """Whether everything was confirmed."""
        return not (self.faults or self.inconsistent)


def verify(
    entry: Entry, items: int, overrides: dict[str, Any], seed: int | None = None
) -> Verification:
    """Generate at least ``items`` items again and compare their scores.

    ``overrides`` are options of this machine, such as the model's folder. Raises UserError when
    the model, the labeler or the items here are not the entry's.
    """
    inconsistent, changed = disagreements(entry)
    options = _options(entry) | overrides
    if (name := options.get("model")) is not None and not is_model(name):
        raise UserError(f"the entry's model {name!r} is not shipped; give its folder with --model")
    study = open_study(config_of(options))
    _refuse_unlike(entry, study)
    inconsistent += changed_facts(entry.record, study)
    torch.set_num_threads(study.threads)
    blocks = _chosen(study, items, changed, secrets.randbits(32) if seed is None else seed)
    unlike = _unlike(entry, study)
    faults: list[Fault] = []
    largest, count = 0.0, 0
    margin, tolerance = (0.0, 0.0) if unlike is None else (THRESHOLD_MARGIN, TOLERANCE)
    for item, task, cell, stored, generated, ends in _compared(entry, study, blocks, margin):
        count += 1
        if np.isnan(stored) and np.isnan(generated):
            continue
        # A score that is undefined on one side only is nan away from the other.
        if not min(ends) - tolerance <= stored <= max(ends) + tolerance:
            faults.append(Fault(item, task, cell, stored, generated))
        difference = abs(stored - generated)
        largest = max(largest, difference) if np.isfinite(difference) else largest
    return Verification(
        tuple(item.id for block in blocks for item in block.items),
        count,
        largest,
        unlike,
        tuple(faults),
        tuple(inconsistent),
    )


def _options(entry: Entry) -> dict[str, Any]:
    """Return the options of the entry's run; a model in a folder names no labeler or guidance."""
    record = entry.record
    return record.options | {
        "labeler": record.labeler.name,
        "guidance": record.sampler.guidance,
        "threads": record.machine.threads,
    }


def _refuse_unlike(entry: Entry, study: Study) -> None:
    """Raise UserError unless model, labeler and items are those of the entry."""
    record, facts = entry.record, study.brief_facts
    for what, stored, here, remedy in (
        ("model", record.model.revision, facts[MODEL_WEIGHTS], "give its folder with --model"),
        ("labeler", record.labeler.weights, facts[LABELER_WEIGHTS], "install the entry's labeler"),
        (
            "precision",
            record.machine.precision,
            study.backend.precision,
            "choose an --engine of it",
        ),
    ):
        if stored != here:
            raise UserError(
                f"the {what} here is not the entry's ({here}, in {entry.path / ENTRY} {stored}); "
                f"{remedy}"
            )
    keys = {item.id: item_key(item) for block in study.test for item in block.items}
    for item in record.items:
        if keys.get(item.id) != item.key:
            raise UserError(
                f"the dataset {record.dataset.name} here has no item {item.id} with the entry's "
                "prompt and seed; give "
                + (
                    "the entry's file of prompts with --dataset"
                    if is_prompt_file(study.config.dataset)
                    else "its files with --prompts"
                )
            )


def _chosen(study: Study, items: int, changed: Sequence[str], seed: int) -> list[Block]:
    """Return the blocks of changed items, and random blocks until there are enough items."""
    suspect = [b for b in study.test if any(item.id in changed for item in b.items)]
    others = [block for block in study.test if block not in suspect]
    chosen, random = list(suspect), np.random.default_rng(seed)
    for index in random.permutation(len(others)):
        if sum(len(block.items) for block in chosen) >= items:
            break
        chosen.append(others[index])
    return sorted(chosen, key=lambda block: block.index)


def _unlike(entry: Entry, study: Study) -> str | None:
    """Return the first difference from the entry's machine that can change bits."""
    machine, here = entry.record.machine, environment()
    pairs = {
        "engine": (machine.engine, study.config.engine),
        "threads": (machine.threads, study.threads),
        "processor": (machine.processor, here.processor),
        "platform": (machine.platform, here.platform),
        "GPUs": (machine.gpus, here.gpus),
    }
    others = {name for name in ENGINES if name.partition("-")[0] not in study.config.engine}
    for name in sorted({*machine.versions, *here.versions} - others - {_SCENEBENCH}):
        pairs[name] = (machine.versions.get(name), here.versions.get(name))
    for name, (stored, present) in pairs.items():
        if stored != present:
            return f"{name}: {present} here, {stored} there"
    return None


Compared = tuple[str, str, CellRecord, float, float, list[float]]
"""(item, task, cell, stored score, generated score, scores at the threshold and beside it)."""


def _compared(
    entry: Entry, study: Study, blocks: Sequence[Block], margin: float
) -> Iterator[Compared]:
    cells = {
        name: [_cell(cell) for cell in task.cells] for name, task in entry.record.tasks.items()
    }
    probe_set = _probe_set(entry, study, cells)
    tasks = {name: study.tasks[name] for name in cells}
    fit = ProbesFit(entry.path, probe_set, tasks)
    steps = sorted({cell.step for table in cells.values() for cell in table if cell.step != ALWAYS})
    networks = {cell.network for table in cells.values() for cell in table}
    recorded, _ = recorded_model(study)
    kept = {name: source for name, source in recorded.sources.items() if name in networks}
    recorded = replace(recorded, sources=kept)
    study.components.send(study.device)
    rows = {item.id: row for row, item in enumerate(entry.record.items)}
    for block in blocks:
        readout = Readout(probe_set, tasks, study.device)
        study.stream(recorded, block.items, [fit, readout], steps)
        tables = _at_thresholds(readout, margin)
        for name, task in entry.record.tasks.items():
            at = {cell: row for row, cell in enumerate(readout.cells[name])}
            for row, (cell, record) in enumerate(zip(cells[name], task.cells, strict=True)):
                for column, item in enumerate(block.items):
                    stored = float(entry.scores[name][row, rows[item.id]])
                    found = [float(table[name][at[cell], column]) for table in tables]
                    yield item.id, name, record, stored, found[0], found


def _at_thresholds(readout: Readout, margin: float) -> list[Arrays]:
    """Return headline scores (cells x items) at the thresholds, and with a margin beside them."""
    probe_set, tables = readout.probe_set, []
    for shift in (0.0, -margin, margin) if margin else (0.0,):
        thresholds = {
            name: {cell: value + shift for cell, value in of_cells.items()}
            for name, of_cells in probe_set.thresholds.items()
        }
        readout.probe_set = replace(probe_set, thresholds=thresholds)
        # Rounded as the stored ones.
        scores = readout.scores().items()
        tables.append({name: table[:, 0].cpu().float().double().numpy() for name, table in scores})
    return tables


def _cell(record: CellRecord) -> Cell:
    return Cell(
        record.network,
        record.layer,
        step_of(record.step),
        record.probe,
        record.draw,
        Grid.parse(str(record.side)),
    )


def _probe_set(entry: Entry, study: Study, cells: dict[str, list[Cell]]) -> ProbeSet:
    stored = read_arrays(entry.path / PROBES)
    nan = float("nan")
    probe_set = ProbeSet({}, {})
    for name, table in cells.items():
        probes, thresholds = {}, {}
        for row, cell in enumerate(table):
            try:
                weights, intercept = (
                    torch.from_numpy(stored[f"{name}/{row}/{part}"])
                    for part in ("weights", "intercept")
                )
            except KeyError as error:
                raise UserError(
                    f"{entry.path / PROBES} lacks {error}; submit the run again"
                ) from error
            if weights.ndim != 2 or intercept.ndim != 1 or weights.shape[1] != len(intercept):
                raise UserError(
                    f"{entry.path / PROBES} has weights and an intercept of {name}/{row} that do "
                    "not fit each other; submit the run again"
                )
            probes[cell] = FittedProbe(weights, intercept, nan, False, nan)
            threshold = entry.record.tasks[name].cells[row].threshold
            thresholds[cell] = nan if threshold is None else threshold
        probe_set.probes[name] = probes
        probe_set.thresholds[name] = thresholds
        size = (1, 1) if study.tasks[name].per_image else study.components.image_size
        # A probe set also scores this baseline, which nobody reads here.
        outputs = len(next(iter(probes.values())).intercept)
        probe_set.mean_map[name] = torch.zeros(outputs, *size, dtype=torch.float64)
    return probe_set
