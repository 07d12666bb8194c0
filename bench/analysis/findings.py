"""All findings of a run, computed once for the tables, the report and ``findings.json``.

findings.json   schema         the version of this file
                comparisons    the best layer against its controls, with gain, interval, p and q
                baselines      the same against every recorded baseline
                emergence      per task: the final gain, its share at every step, and the onset
                catching_up    per task: from which step on decoded images score as high as probes
                discoveries    per question: the cells of the trained network with the answer yes
                subsets        per task: the best layer's score on small, medium and large objects,
                               and on prompts that are equal, nearly equal or unlike those of
                               training
                untrained      whether the weights are random, so that no score describes the model
                overlap        what test items share with training items, and prompts that are cut

Steps are counted from 1; undefined numbers are null.
"""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.analysis.comparisons import Comparison, baseline_comparisons, comparisons
from bench.analysis.emergence import Emergence, Onset, catching_up, emergence
from bench.analysis.significance import Discoveries, discoveries
from bench.analysis.subsets import Subsets, subsets
from bench.errors import UserError
from bench.runs.results import Results
from bench.steps import number_of, numbers_of
from datasets.atomic_write import atomic_write
from extract.networks import DECODED_LAYERS

FINDINGS = "findings.json"
FINDINGS_SCHEMA = 3
"""Version of ``findings.json``, which no command reads."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that a run's scores are tested for."""

    comparisons: tuple[Comparison, ...]
    """With the controls."""
    baselines: tuple[Comparison, ...]
    """With the recorded baselines."""
    discoveries: tuple[Discoveries, ...]
    emergence: dict[str, Emergence]
    """By task."""
    catching_up: dict[str, dict[str, Onset]]
    """By task, then by what is decoded; empty where nothing was."""
    subsets: dict[str, Subsets]
    """By task."""


@lru_cache(maxsize=1)
def findings_of(results: Results) -> Findings:
    """The findings of a run; those of the last run are kept for the next caller."""
    tasks = results.tasks
    onsets = {
        name: {
            layer: onset for layer in DECODED_LAYERS if (onset := catching_up(results, task, layer))
        }
        for name, task in tasks.items()
    }
    parts = {name: subsets(results, task) for name, task in tasks.items()}
    return Findings(
        tuple(comparisons(results)),
        tuple(baseline_comparisons(results)),
        tuple(discoveries(results)),
        {name: emergence(results, task) for name, task in tasks.items()},
        {name: by_layer for name, by_layer in onsets.items() if by_layer},
        {name: scores for name, scores in parts.items() if scores},
    )


def write_findings(results: Results) -> Path:
    """Write ``findings.json`` into the run folder and return its path.

    Raises UserError when it cannot be written.
    """
    text = json.dumps(_plain(_document(results)), indent=2, allow_nan=False)
    return write_document(results.path / FINDINGS, text + "\n")


def write_document(path: Path, text: str) -> Path:
    """Write a file of findings into its run folder, complete or not at all; return its path.

    Raises UserError when it cannot be written.
    """
    try:
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); make its folder writable and run: "
            f"python -m bench report {shlex.quote(str(path.parent))}"
        ) from error
    return path


def _document(results: Results) -> dict[str, Any]:
    findings = findings_of(results)
    return {
        "schema": FINDINGS_SCHEMA,
        "untrained": results.untrained,
        "overlap": None if results.overlap is None else results.overlap.model_dump(mode="json"),
        "comparisons": [_comparison(row) for row in findings.comparisons],
        "baselines": [_comparison(row) for row in findings.baselines],
        "emergence": {
            name: asdict(entry) | {"steps": list(numbers_of(entry.steps))}
            for name, entry in findings.emergence.items()
        },
        "catching_up": {
            task: {
                layer: asdict(onset.step)
                | {"never": onset.step.mean > onset.numbers[-1], "steps": onset.numbers}
                for layer, onset in onsets.items()
            }
            for task, onsets in findings.catching_up.items()
        },
        "discoveries": [_discoveries(answer) for answer in findings.discoveries],
        "subsets": {name: asdict(scores) for name, scores in findings.subsets.items()},
    }


def _comparison(row: Comparison) -> dict[str, Any]:
    """The file's names for a comparison's fields."""
    return {
        "task": row.task,
        "step": number_of(row.step),
        "what": row.what,
        "layer": row.layer,
        "baseline_layer": row.baseline_layer,
        "score": row.score,
        "baseline_score": row.baseline_score,
        "gain": asdict(row.gain),
        "p": row.p,
        "q": row.q,
        "holds": row.holds,
    }


def _discoveries(answer: Discoveries) -> dict[str, Any]:
    values = zip(answer.cells, answer.gain.tolist(), answer.q.tolist(), answer.held, strict=True)
    return {
        "question": answer.question,
        "cells": len(answer.cells),
        "comparisons": answer.comparisons,
        "held": [
            {"task": task, "layer": cell.layer, "step": number_of(cell.step), "gain": gain, "q": q}
            for (task, cell), gain, q, held in values
            if held
        ],
    }


def _plain(value: Any) -> Any:
    """Replace numbers that are not finite by None: JSON has no nan."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
