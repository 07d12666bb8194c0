"""Several runs side by side: at the last step, or at equal noise levels."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.noise_levels import (
    LevelDifference,
    common_levels,
    compare_at_levels,
    levels_of,
)
from bench.analysis.significance import at_rate
from bench.config import FORMATS
from bench.errors import UserError
from bench.report.noise import LOG_SNR, log_snr_text
from bench.report.tables import caveats, measure, of_processes, print_line, print_table
from bench.runs.conditions import differences, of_labels
from bench.runs.curves import curve
from bench.runs.results import Results
from extract.networks import TRAINED
from probes.probe_set import ACTIVATIONS


def print_comparison(runs: Sequence[Results], form: str = FORMATS[0]) -> None:
    """Print several runs side by side, with the best layer at the last step."""
    rows = []
    differing = differences(runs)
    for number, results in enumerate(runs):
        row = {
            "run": str(results.path),
            "model": results.config.model,
            "engine": results.config.engine,
            "test items": str(len(results.record.test_items)),
        }
        for task in results.tasks.values():
            _, layer, score = curve(results, task, TRAINED, ACTIVATIONS)[-1]
            row[f"{task.name}: {measure(task)}"] = f"{score} {layer}"
        row["minutes"] = f"{results.record.seconds / 60:.1f}{of_processes(results)}"
        row["peak GiB"] = f"{results.record.peak_bytes / 2**30:.2f}"
        if differing:
            others = [name for name, values in differing.items() if values[number] != values[0]]
            row["unlike the first in"] = ", ".join(others)
        rows.append(row)
    print_table(rows, form)
    _print_remarks(runs, form)


def print_at_levels(runs: Sequence[Results], form: str = FORMATS[0]) -> None:
    """Print every run against the first one at equal log-SNR, task by task.

    Raises UserError where a run did not record noise levels, or the ranges do not overlap.
    """
    levels = common_levels([levels_of(results) for results in runs])
    if not levels:
        ranges = "; ".join(f"{results.path}: {_range(results)}" for results in runs)
        raise UserError(f"the runs have no log-SNR in common ({ranges}); show them by step")
    first = runs[0]
    for other in runs[1:]:
        rows = compare_at_levels(first, other, levels)
        if not rows:
            raise UserError(f"{first.path} and {other.path} have no task in common")
        how = "paired over test items" if rows[0].is_paired else "of different test items"
        print_line(f"A: {first.path} ({_sampler(first)}), log-SNR {_range(first)}", form)
        print_line(f"B: {other.path} ({_sampler(other)}), log-SNR {_range(other)}", form)
        for name in dict.fromkeys(row.task for row in rows):
            print(f"\n{name}: {measure(first.tasks[name])}\n")
            print_table([_row(row) for row in rows if row.task == name], form)
        held = sum(row.is_significant for row in rows)
        print_line(
            f"B - A is {how}, above zero where B is better; scores between two steps are "
            f"interpolated per item. {held} of {len(rows)} differ {at_rate(len(rows))}",
            form,
        )
        print()
    _print_remarks(runs, form)


def _row(row: LevelDifference) -> dict[str, str]:
    return {
        LOG_SNR: log_snr_text(row.log_snr),
        "A": str(row.scores[0]),
        "layer of A": row.layers[0],
        "B": str(row.scores[1]),
        "layer of B": row.layers[1],
        "B - A": str(row.difference),
        "q": f"{row.q:.4f}",
        "differ": "yes" if row.is_significant else "no",
    }


def _sampler(results: Results) -> str:
    sampler = results.record.conditions.get("sampler", "sampler unknown")
    return f"{results.config.model}, {sampler}, {len(results.record.timesteps)} steps"


def _range(results: Results) -> str:
    levels = levels_of(results)
    return f"{log_snr_text(levels[0])} to {log_snr_text(levels[-1])}"


def _print_remarks(runs: Sequence[Results], form: str) -> None:
    """Print in what the runs differ, and the caveats of each."""
    differing = differences(runs)
    unlike = of_labels(differing)
    for name, values in differing.items():
        has = ", ".join(f"{r.path} has {value}" for r, value in zip(runs, values, strict=True))
        weight = "not comparable" if name in unlike else "the runs differ"
        print_line(f"{weight} in {name}: {has}", form)
    for results in runs:
        for caveat in caveats(results):
            print_line(f"{results.path}: {caveat}", form)
