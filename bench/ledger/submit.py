"""Write a run's entry into a ledger."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.config import Config
from bench.errors import UserError
from bench.ledger.claimed import best_cells, claimed_cells
from bench.ledger.entries import digests, read_arrays, sha256, summarised, write_arrays
from bench.ledger.facts import differing_levels, layer_paths, sampler_record
from bench.ledger.records import (
    ENTRY,
    PROBES,
    SCHEMA,
    SCORES,
    CellRecord,
    DatasetRecord,
    EntryRecord,
    ItemRecord,
    LabelerRecord,
    MachineRecord,
    ModelRecord,
    TaskRecord,
)
from bench.runs.conditions import (
    LABELER_WEIGHTS,
    MODEL_WEIGHTS,
    TEST_ITEMS,
    TRAINING_ITEMS,
    item_key,
)
from bench.runs.probes import read_probes
from bench.runs.results import Results, TaskResults, probe_name
from bench.steps import number_of, numbers_of
from bench.study import Study, open_study
from datasets.atomic_write import atomic_write
from probes.probe_set import Cell

_SHORT = 12
"""Letters of a hash in the name of a folder."""
_OF_MACHINE = ("out", "threads", "fetch")
"""Options that change no score."""


def submit(results: Results, ledger: Path) -> Path:
    """Write the entry of a finished run and return its folder.

    Raises UserError for a run that cannot be claimed, and when the ledger cannot be written.
    """
    _refuse(results)
    study = open_study(replace(results.config, out=None))
    if study.brief_facts[MODEL_WEIGHTS] != results.facts[MODEL_WEIGHTS]:
        raise UserError(
            f"{results.path} was made with other weights than {results.config.model} has now; "
            "run again, then submit that run"
        )
    _refuse_other_levels(results, study)
    tables = {name: claimed_cells(results, task) for name, task in results.tasks.items()}
    scores = {
        # Rounded, so that the last bit of the probes' own arithmetic does not count.
        name: np.array([results.tasks[name].score(cell) for cell in cells]).astype(np.float32)
        for name, cells in tables.items()
    }
    record = _record(results, study, tables, scores)
    folder = ledger.joinpath(
        *map(_as_folder, (record.model.name, record.model.revision[:_SHORT], record.dataset.name)),
        record.fingerprint,
    )
    try:
        _refuse_another(folder, scores)
        folder.mkdir(parents=True, exist_ok=True)
        for name, arrays in ((SCORES, scores), (PROBES, _probes(results, tables))):
            with atomic_write(folder / name) as partial:
                write_arrays(partial, arrays)
        sums = {name: sha256(folder / name) for name in (SCORES, PROBES)}
        text = sealed(record, sums).model_dump_json(indent=1, by_alias=True)
        with atomic_write(folder / ENTRY) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write the entry {folder} ({error}); mend it, or choose another --ledger"
        ) from error
    return folder


def sealed(record: EntryRecord, sums: dict[str, str]) -> EntryRecord:
    """Return a record with the checksums of its two other files, and its own."""
    summed = record.model_copy(update={"sha256": sums})
    return summed.model_copy(update={"sha256": sums | {ENTRY: summed.digest}})


def _refuse(results: Results) -> None:
    if results.untrained:
        raise UserError(
            f"{results.path} is a run of random weights, whose scores say nothing about a model; "
            "submit a run of trained weights"
        )
    missing = [
        name for name in (TRAINING_ITEMS, TEST_ITEMS) if name not in results.record.conditions
    ]
    missing += [name for name in (MODEL_WEIGHTS, LABELER_WEIGHTS) if name not in results.facts]
    if missing:
        raise UserError(
            f"{results.path} was made by an earlier version, which did not record {missing[0]}; "
            "run again, then submit that run"
        )


def _refuse_other_levels(results: Results, study: Study) -> None:
    """Raise UserError where the sampler here has other steps than in the run.

    An entry states the steps of its run, and a check generates with those of the installation.
    """
    record, here = results.record, sampler_record(study, results.record.guidance)
    if not record.sigmas:
        # Runs of earlier versions did not record them.
        return
    levels = {name: getattr(record, name) for name in ("timesteps", "sigmas", "log_snr")}
    if differing_levels(here.model_copy(update=levels), here):
        raise UserError(
            f"{results.path} was made with other noise levels than {here.name} has now, as with "
            "another version of diffusers; run again, then submit that run"
        )


def _refuse_another(folder: Path, scores: dict[str, NDArray[np.float32]]) -> None:
    """Raise UserError when the entry exists with other scores."""
    if (folder / SCORES).is_file():
        try:
            stored = read_arrays(folder / SCORES)
        except UserError as error:
            raise UserError(
                f"{folder} holds the same run with a damaged {SCORES}; delete that folder, then "
                "submit again"
            ) from error
        if set(stored) != set(scores) or not all(
            np.array_equal(stored[name], table, equal_nan=True) for name, table in scores.items()
        ):
            raise UserError(
                f"{folder} holds the same run with other scores; verify that entry, or delete it "
                "to replace it"
            )


def _record(
    results: Results,
    study: Study,
    tables: dict[str, tuple[Cell, ...]],
    scores: dict[str, NDArray[np.float32]],
) -> EntryRecord:
    config, machine = results.config, results.environment
    conditions = results.record.conditions
    by_id = {item.id: item for block in study.test for item in block.items}
    if [*by_id] != [*results.record.test_items]:
        raise UserError(
            f"{results.path} was made with other items than {config.dataset} has now; run again"
        )
    items = [by_id[name] for name in results.record.test_items]
    return EntryRecord(
        schema=SCHEMA,
        tool=machine.versions.get("scenebench", "of a folder that is not installed"),
        fingerprint=results.fingerprint,
        model=ModelRecord(
            name=public_name(config.model), revision=str(results.facts[MODEL_WEIGHTS])
        ),
        dataset=DatasetRecord(
            name=public_name(config.dataset),
            training_items=str(conditions[TRAINING_ITEMS]),
            test_items=str(conditions[TEST_ITEMS]),
        ),
        labeler=LabelerRecord(
            name=str(results.facts["labeler"]), weights=str(results.facts[LABELER_WEIGHTS])
        ),
        sampler=sampler_record(study, results.record.guidance),
        machine=MachineRecord(
            engine=config.engine,
            precision=study.backend.precision,
            threads=results.threads,
            processor=machine.processor,
            platform=machine.platform,
            python=machine.python,
            gpus=machine.gpus,
            versions=machine.versions,
            commit=machine.commit,
        ),
        options=_options(config),
        layers=layer_paths(study, results.layers),
        steps=numbers_of(results.steps),
        items=tuple(
            ItemRecord(id=item.id, key=item_key(item), scores=digest)
            for item, digest in zip(items, digests(scores), strict=True)
        ),
        tasks={
            name: _task_record(results, task, tables[name], scores[name])
            for name, task in results.tasks.items()
        },
        caveats=tuple(results.overlap.sentences if results.overlap else ()),
        sha256={},
    )


def _task_record(
    results: Results,
    task: TaskResults,
    cells: tuple[Cell, ...],
    scores: NDArray[np.float32],
) -> TaskRecord:
    best = best_cells(results, task)
    records = []
    for cell, (mean, low, high) in zip(cells, summarised(scores), strict=True):
        threshold = float(task.thresholds[task.row(cell)])
        records.append(
            CellRecord(
                network=cell.network,
                layer=cell.layer,
                step=number_of(cell.step),
                probe=cell.probe,
                draw=cell.draw,
                side=cell.grid.side,
                best=cell in best,
                threshold=threshold if np.isfinite(threshold) else None,
                mean=mean,
                low=low,
                high=high,
            )
        )
    return TaskRecord(
        metric=task.headline,
        higher_is_better=task.higher_is_better[0],
        unit=task.unit,
        cells=tuple(records),
    )


def _probes(
    results: Results, tables: dict[str, tuple[Cell, ...]]
) -> dict[str, NDArray[np.float64]]:
    """Return the probes of the claimed cells, by task and row."""
    stored, arrays = read_probes(results), {}
    for name, cells in tables.items():
        for index, cell in enumerate(cells):
            stem = probe_name(name, cell)
            for part in ("weights", "intercept"):
                if f"{stem}/{part}" not in stored:
                    raise UserError(f"the run's probes lack {stem}; make the run again")
                arrays[f"{name}/{index}/{part}"] = stored[f"{stem}/{part}"].double().numpy()
    return arrays


def _options(config: Config) -> dict[str, Any]:
    """Return the options that are not defaults; of local paths only the last part is public."""
    options: dict[str, Any] = {}
    for entry in fields(Config):
        value = getattr(config, entry.name)
        if entry.name in _OF_MACHINE or value == entry.default:
            continue
        options[entry.name] = public_name(value) if isinstance(value, str) else value
    return options


def public_name(name: str) -> str:
    """Return a name or a hub id as it is, and the last part of a local path."""
    path = Path(name)
    # Resolved, as "." and ".." have no name of their own.
    return path.resolve().name if path.is_absolute() or path.exists() else name


def _as_folder(name: str) -> str:
    return name.replace("/", "--")
