"""What a run found, in three sentences; each is true of any run, with or without an effect."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.comparisons import Comparison
from bench.analysis.emergence import Emergence
from bench.analysis.findings import Findings
from bench.analysis.significance import at_rate
from bench.report.tables import measure
from bench.runs.curves import PERMUTED_LABELS, mean_score
from bench.runs.results import Results, TaskResults
from bench.steps import early_and_last, number_of
from extract.networks import TRAINED
from probes.bootstrap import score_of
from probes.probe_set import ACTIVATIONS, PERMUTED, POSITION

MOST_NAMED = 2
"""Tasks, or comparisons without a gain, that a sentence names; the others are counted."""


def opening(results: Results, findings: Findings) -> list[str]:
    """Return three sentences: early scores, the steps from which on they hold, and controls."""
    step = early_and_last(results.steps)[0]
    scores = [_score(task, step, findings.comparisons) for task in results.tasks.values()]
    onsets = [_onset(entry) for entry in findings.emergence.values()]
    when = f"At step {number_of(step)} of {results.config.sampler_steps}"
    return [
        f"{when} the best layer's probe scores {_listed(scores, 'task')}.",
        f"{_capital(_listed(onsets, 'task'))}{_if_single(results.steps)}.",
        _controls(findings.comparisons),
    ]


def _score(task: TaskResults, step: int, rows: Sequence[Comparison]) -> str:
    best = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
    if best is None:
        return f"nothing for {task.name}, for which no probe was fitted"
    text = f"{score_of(task.score(best))} for {task.name} ({measure(task)}; {best.layer})"
    draws = task.where(network=TRAINED, step=step, probe=PERMUTED, layer=best.layer)
    row = next((row for row in rows if _is_of_labels(row, task.name, step)), None)
    if row is None or not draws:
        return f"{text}, without permuted labels to compare with"
    better = "better" if row.holds else "not significantly better"
    return f"{text}, {better} than the {mean_score(task, draws)} of permuted labels"


def _is_of_labels(row: Comparison, task: str, step: int) -> bool:
    return (row.task, row.step) == (task, step) and row.control == PERMUTED_LABELS


def _onset(entry: Emergence) -> str:
    over = "position alone" if entry.over == POSITION else "the mean training label"
    if entry.onset is None:
        return f"for {entry.task} no gain over {over} was seen at the last step ({entry.final})"
    return (
        f"{entry.task} has 90 % of its final gain over {over} ({entry.final}; {entry.layer}) "
        f"from {entry.onset.words()} on"
    )


def _if_single(steps: Sequence[int]) -> str:
    return ", and no other step was probed" if len(steps) == 1 else ""


def _controls(rows: Sequence[Comparison]) -> str:
    if not rows:
        return "No control was recorded, so no score is compared with anything."
    rate = at_rate(len(rows))
    failed = [row for row in rows if not row.holds]
    favour = "favour the trained network's probes"
    if not failed:
        least = min(rows, key=lambda row: row.gain.low / row.gain.mean)
        return (
            f"All {len(rows)} comparisons with controls {favour} {rate}; the least certain gain is "
            f"that of {_named(least)}."
        )
    count = len(rows) - len(failed) or "None"
    return (
        f"{count} of {len(rows)} comparisons with controls {favour} {rate}, without a significant "
        f"gain for {_listed([_named(row) for row in failed], 'comparison')}."
    )


def _named(row: Comparison) -> str:
    return f"{row.task} at step {number_of(row.step)} against {row.what} ({row.gain})"


def _listed(parts: Sequence[str], what: str) -> str:
    """Join the first parts, and count the others."""
    rest = len(parts) - MOST_NAMED
    more = [f"{rest} more {what}{'s are' if rest > 1 else ' is'} below"] if rest > 0 else []
    return "; ".join([*parts[:MOST_NAMED], *more])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
