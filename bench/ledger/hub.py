"""Export a model's entries in the Hub's evaluation format, a list of results in YAML.

The format is that of ``.eval_results/*.yaml`` in a model's repository, as huggingface_hub writes
it: dataset id, task id, value, revision of the dataset, and source.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from bench.errors import UserError
from bench.ledger.entries import Entry
from datasets.atomic_write import atomic_write


def export_hub(
    entries: Sequence[Entry], path: Path, model: str | None, dataset: str | None, url: str | None
) -> int:
    """Write the results of one model and return their number.

    ``dataset`` is the Hub's id of the benchmark (by default the dataset's name), ``url`` the
    source. Raises UserError when ``model`` is needed or unknown, or the file cannot be written.
    """
    models = list(dict.fromkeys(entry.record.model.name for entry in entries))
    if model is None and len(models) > 1:
        raise UserError(
            f"a file of the Hub lies in one model's repository, and the ledger has "
            f"{', '.join(models)}; name one with --hub-model"
        )
    if model is not None and model not in models:
        raise UserError(f"the ledger has no model {model!r}; it has {', '.join(models)}")
    results = [
        result
        for entry in entries
        if model in (None, entry.record.model.name)
        for result in _results(entry, dataset, url)
    ]
    text = yaml.safe_dump(eval_result_entries_to_yaml(results), sort_keys=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another file") from error
    return len(results)


def _results(entry: Entry, dataset: str | None, url: str | None) -> list[EvalResultEntry]:
    record = entry.record
    results = []
    for name, task in record.tasks.items():
        at = entry.at(name, record.steps[-1])
        if at is None or at[0].mean is None:
            continue
        cell = at[0]
        results.append(
            EvalResultEntry(
                dataset_id=dataset or record.dataset.name,
                task_id=f"{name}_{task.metric}",
                value=cell.mean,
                dataset_revision=record.dataset.test_items.partition("hash ")[2].rstrip(")")
                or None,
                source_url=url,
                source_name=None if url is None else f"scenebench {record.tool}",
                notes=(
                    f"{record.model.name} {record.model.revision}, {cell.layer} step {cell.step}, "
                    f"95 % interval {cell.low} to {cell.high}, entry {entry.name}"
                ),
            )
        )
    return results
