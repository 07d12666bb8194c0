"""Everything that a run found, computed once: the tables, the report and ``findings.json`` say the same.

findings.json   comparisons    the best layer against its controls, with gain, interval, p and q
                paper          the same against every other reading that was watched
                emergence      per task: the final gain; where there is one, its share at every step and the onset
                catching_up    per task: from which step on the decoded image says what the probe says
                discoveries    per question: the cells of the trained network for which the answer is yes
                strata         per task: the best layer's score on small, medium and large objects
                untrained      whether the weights are random, so that no score says anything of the model

Steps are counted from 1; numbers that are not defined are null.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.analysis.comparisons import Comparison, comparisons, paper_rows
from bench.analysis.emergence import Emergence, Onset, catching_up, emergence
from bench.analysis.significance import Discoveries, discoveries
from bench.errors import UserError
from bench.runs.results import Results, TaskResults
from extract.networks import DECODED_LAYERS, TRAINED
from probes.bootstrap import Score
from probes.object_size import by_area
from probes.probe_set import ACTIVATIONS

FINDINGS = "findings.json"


@dataclass(frozen=True, slots=True)
class Size:
    """The best layer's score on test images whose objects are of one size."""

    name: str
    low_area: float
    high_area: float
    score: Score


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run found."""

    comparisons: tuple[Comparison, ...]
    paper: tuple[Comparison, ...]
    discoveries: tuple[Discoveries, ...]
    emergence: dict[str, Emergence]
    """By task."""
    catching_up: dict[str, dict[str, Onset]]
    """By task, then by what is decoded; empty where nothing was."""
    strata: dict[str, tuple[str, tuple[Size, ...]]]
    """(layer, sizes) by task."""


@lru_cache(maxsize=1)
def found_in(results: Results) -> Findings:
    """All of it; the last run's is kept, for the terminal, the page and the file ask one after the other."""
    tasks = results.tasks
    decoded = {
        name: {
            layer: step for layer in DECODED_LAYERS if (step := catching_up(results, task, layer))
        }
        for name, task in tasks.items()
    }
    strata = {name: sizes for name, task in tasks.items() if (sizes := _strata(results, task))}
    return Findings(
        tuple(comparisons(results)),
        tuple(paper_rows(results)),
        tuple(discoveries(results)),
        {name: emergence(results, task) for name, task in tasks.items()},
        {name: found for name, found in decoded.items() if found},
        strata,
    )


def _strata(results: Results, task: TaskResults) -> tuple[str, tuple[Size, ...]] | None:
    best = task.best(network=TRAINED, step=results.steps[-1], probe=ACTIVATIONS)
    if best is None:
        return None
    sizes = []
    for stratum in by_area(task.score(best)[None], results.foreground):
        score = Score(
            *(
                float(end[0])
                for end in (stratum.scores.mean, stratum.scores.low, stratum.scores.high)
            )
        )
        sizes.append(Size(stratum.name, float(stratum.low_area), float(stratum.high_area), score))
    return best.layer, tuple(sizes)


def write_found(results: Results) -> Path:
    """Write ``findings.json`` into the run folder and give its path. Raises UserError when it cannot be written."""
    path = results.path / FINDINGS
    try:
        path.write_text(
            json.dumps(_plain(_facts(results)), indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); make it writable and run: bench report"
        ) from error
    return path


def _facts(results: Results) -> dict[str, Any]:
    found = found_in(results)
    return {
        "untrained": results.untrained,
        "comparisons": [_comparison(entry) for entry in found.comparisons],
        "paper": [_comparison(entry) for entry in found.paper],
        "emergence": {
            name: asdict(entry) | {"steps": [step + 1 for step in entry.steps]}
            for name, entry in found.emergence.items()
        },
        "catching_up": {
            task: {
                name: asdict(onset.step)
                | {"never": onset.step.mean > onset.numbers[-1], "steps": onset.numbers}
                for name, onset in entries.items()
            }
            for task, entries in found.catching_up.items()
        },
        "discoveries": [
            {
                "question": asked.question,
                "cells": len(asked.cells),
                "comparisons": asked.comparisons,
                "held": [
                    {"task": task, "layer": cell.layer, "step": cell.step + 1, "gain": gain, "q": q}
                    for (task, cell), gain, q, held in zip(
                        asked.cells, asked.gain.tolist(), asked.q.tolist(), asked.held, strict=True
                    )
                    if held
                ],
            }
            for asked in found.discoveries
        ],
        "strata": {
            name: {"layer": layer, "sizes": [asdict(size) for size in sizes]}
            for name, (layer, sizes) in found.strata.items()
        },
    }


def _comparison(entry: Comparison) -> dict[str, Any]:
    return asdict(entry) | {"step": entry.step + 1, "holds": entry.holds}


def _plain(value: Any) -> Any:
    """JSON has no nan: what is not defined is null."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
