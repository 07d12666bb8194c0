"""Tables of one run for the terminal: by layer with its controls, and its comparisons."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from bench.analysis.comparisons import Comparison
from bench.analysis.degenerate import degenerate_labels
from bench.analysis.emergence import Emergence, catching_up_line
from bench.analysis.findings import Findings, findings_of
from bench.analysis.noise_levels import levels_of
from bench.analysis.significance import Discoveries, at_rate
from bench.config import FORMATS
from bench.report.noise import by_noise, noise_header
from bench.runs.curves import constant, curve, mean_label
from bench.runs.results import Results, TaskResults
from bench.steps import BY_NOISE, BY_STEP, EARLY_STEP, number_of
from extract.networks import CLEAN, INPUT, TRAINED
from probes.accumulate import DRAWS
from probes.bootstrap import Array, Score, score_of
from probes.probe_set import (
    ACTIVATIONS,
    CEILING,
    EQUAL_WIDTH,
    FOREGROUND,
    MEAN_MAP,
    PERMUTED,
    POSITION,
    STANDARDISED,
    WITH_POSITION,
    Cell,
)

UNTRAINED = "untrained weights: the weights are random, and no score says anything about the model"


def print_run(results: Results, form: str = FORMATS[0], by: str = BY_STEP) -> None:
    """Print all findings of a run in tables; ``form`` is one of FORMATS, ``by`` one of AXES.

    Raises UserError by noise level where the run did not record any.
    """
    if by == BY_NOISE:
        levels_of(results)
    findings = findings_of(results)
    for caveat in caveats(results):
        print(f"\n{caveat}")
    for name, task in results.tasks.items():
        print(f"\n{title(task)}\n")
        _print_rows(results, layer_rows(results, task), form, by)
        print_line(baseline_line(results, task), form)
        print_line(emergence_line(findings.emergence[name]), form)
        for line in subset_lines(findings, name):
            print_line(line, form)
    print("\nThe best layer (chosen on training images) against each control, paired over test")
    print("images; a gain above zero favours the trained network.\n")
    _print_rows(results, [comparison_row(row) for row in findings.comparisons], form, by)
    for line in held_lines(findings):
        print_line(line, form)
    _print_baselines(results, findings, form, by)
    print(f"\n{cost_line(results)}")


def caveats(results: Results) -> list[str]:
    """Warnings that are printed before any score."""
    warnings = [UNTRAINED] if results.untrained else []
    if results.overlap:
        warnings += results.overlap.sentences
    draws = {cell.draw for task in results.tasks.values() for cell in task.where(probe=PERMUTED)}
    if len(draws) < DRAWS:
        train, test = map(len, (results.record.train_items, results.record.test_items))
        warnings.append(
            f"a trial of {train} training and {test} test images: {len(draws) or 'no'} draws of "
            f"permuted labels instead of {DRAWS}; scores of so few say little"
        )
    return [*warnings, *degenerate_labels(results)]


def _print_baselines(results: Results, findings: Findings, form: str, by: str) -> None:
    """Print the comparisons with the recorded baselines, if there are any."""
    if not findings.baselines:
        return
    print("\nThe trained network's probes against every baseline, paired over test images\n")
    _print_rows(results, [comparison_row(row) for row in findings.baselines], form, by)
    print_line(held_line(findings.baselines), form)
    for task, onsets in findings.catching_up.items():
        print_line(catching_up_line(results, task, onsets), form)


def _print_rows(results: Results, rows: list[dict[str, str]], form: str, by: str) -> None:
    """Print rows that name steps, with a second header row, or by noise level."""
    if by == BY_NOISE:
        print_table(by_noise(results, rows), form)
        return
    header = noise_header(results, [*rows[0]])
    if header and form == FORMATS[0]:
        # Below the name of each column; Markdown has one header row.
        titles = {name: f"{name}\n{level}" for name, level in header.items()}
        rows = [{titles[name]: value for name, value in row.items()} for row in rows]
    print_table([header, *rows] if header and form != FORMATS[0] else rows, form)


def print_table(rows: Sequence[dict[str, str]], form: str) -> None:
    """Print a table in one of FORMATS."""
    if form != FORMATS[0]:
        rows = [{key: in_markdown(value) for key, value in row.items()} for row in rows]
    print(tabulate(rows, headers="keys", tablefmt=form, disable_numparse=True))


def in_markdown(text: str) -> str:
    """Escape what would end a cell, start a tag or an entity, or be taken for a mark."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*])", r"\\\1", text)


def print_line(line: str, form: str) -> None:
    """Print a line below a table."""
    # Markdown would run lines together.
    print(line if form == FORMATS[0] else f"\n{in_markdown(line)}")


def measure(task: TaskResults) -> str:
    """The headline metric with its unit and direction."""
    unit = f" ({task.unit})" if task.unit else ""
    return f"{task.headline}{unit}{'' if task.higher_is_better[0] else ', lower is better'}"


def title(task: TaskResults) -> str:
    """The title of a task's table."""
    images = task.scores.shape[-1]
    return f"{task.name}: {measure(task)}; {images} test images, 95 % intervals over images"


def layer_rows(results: Results, task: TaskResults) -> list[dict[str, str]]:
    """One row per layer: its scores at the last step and before, and its controls."""
    last, rows = results.steps[-1], []
    early = [step for step in (0, EARLY_STEP) if step in results.steps and step != last]
    for layer in results.layers:

        def cells(probe: str, step: int = last, layer: str = layer) -> list[Cell]:
            return task.where(network=TRAINED, layer=layer, step=step, probe=probe)

        (cell,) = cells(ACTIVATIONS)
        row = {"layer": layer, "tokens": str(cell.grid)}
        for step in early:
            row[f"step {number_of(step)}"] = _mean(task.score(cells(ACTIVATIONS, step)[0]))
        row[f"step {last + 1}"] = str(score_of(task.score(cell)))
        for both in cells(WITH_POSITION):
            row["with position"] = str(score_of(task.score(both)))
        if task.where(probe=EQUAL_WIDTH):
            narrow = cells(EQUAL_WIDTH)
            row["equal width"] = _mean(task.score(narrow[0])) if narrow else "-"
        for unit in cells(STANDARDISED):
            row[STANDARDISED] = str(score_of(task.score(unit)))
        random = [
            cell
            for name in results.random_networks
            for cell in task.where(network=name, layer=layer, step=last, probe=ACTIVATIONS)
        ]
        for name, draws in (("permuted", cells(PERMUTED)), ("random", random)):
            if draws:
                row[name] = _mean(np.mean([task.score(draw) for draw in draws], axis=0))
        (ceiling,) = task.where(network=CEILING, grid=cell.grid)
        row["ceiling"] = _mean(task.score(ceiling))
        rows.append(row)
    return rows


def baseline_line(results: Results, task: TaskResults) -> str:
    """The scores of the baselines that have no layer."""
    parts = []
    for name, network in (
        ("position alone", POSITION),
        (mean_label(task), MEAN_MAP),
        ("all foreground", FOREGROUND),
    ):
        if baseline := constant(task, network):
            parts.append(f"{name} {baseline[1]}")
    for name, network in (("the latent itself", INPUT), ("the predicted clean latent", CLEAN)):
        if points := curve(results, task, network, ACTIVATIONS):
            parts.append(f"{name} at step {points[-1][0] + 1} {points[-1][2]}")
    return "baselines: " + "; ".join(parts)


def emergence_line(emergence: Emergence) -> str:
    """From which step on the best layer keeps most of its final gain."""
    layer = f"{emergence.layer}{' with position' if emergence.over == POSITION else ''}"
    over = emergence.over if emergence.over == POSITION else "the mean training label"
    if emergence.onset is None:
        gain = f"gain of {layer} over {over}"
        return f"emergence: no {gain} was seen at the last step ({emergence.final})"
    when = emergence.onset.words()
    text = f"emergence: {layer} keeps 90 % of its final gain over {over} from {when} on"
    if EARLY_STEP in emergence.steps and emergence.steps[-1] != EARLY_STEP:
        early = emergence.share[emergence.steps.index(EARLY_STEP)]
        text += f"; at step {EARLY_STEP + 1} it has {percent(early)} of it"
    return text


def subset_lines(findings: Findings, task: str) -> list[str]:
    """The best layer's scores by size of the object, and by likeness to training prompts."""
    if task not in findings.subsets:
        return []
    best = findings.subsets[task]
    sizes = [
        f"{size.name} ({100 * size.low_area:.0f} to {100 * size.high_area:.0f} %) {size.score}"
        for size in best.sizes
    ]
    prompts = [f"{group.name} ({group.items}) {group.score}" for group in best.prompts]
    parts = {
        "by size of the object": sizes,
        "by likeness of the prompt to training prompts": prompts,
    }
    return [f"{what}, {best.layer}: {'; '.join(each)}" for what, each in parts.items() if each]


def comparison_row(row: Comparison) -> dict[str, str]:
    """A comparison as a table row."""
    return {
        "task": row.task,
        "step": str(number_of(row.step)),
        "against": row.what,
        "layer": row.layer,
        "score": f"{row.score:.3f}",
        "its layer": row.baseline_layer,
        "its score": f"{row.baseline_score:.3f}",
        "gain": str(row.gain),
        "q": f"{row.q:.4f}",
        "holds": "yes" if row.holds else "no",
    }


def held_lines(findings: Findings) -> list[str]:
    """How many comparisons with controls hold, and how many cells answer each question with yes."""
    return [held_line(findings.comparisons), *map(discovery_line, findings.discoveries)]


def held_line(rows: Sequence[Comparison]) -> str:
    """How many comparisons hold."""
    return f"{sum(row.holds for row in rows)} of {len(rows)} comparisons hold {at_rate(len(rows))}"


def discovery_line(answer: Discoveries) -> str:
    """How many cells answer a question with yes."""
    cells = f"{answer.held.sum()} of {len(answer.cells)} cells"
    return f"{cells} are {answer.question} {at_rate(answer.comparisons)}"


def cost_line(results: Results) -> str:
    """Time and memory of the run."""
    record = results.record
    items = len(record.train_items) + len(record.test_items)
    times = [float(row["median_ms_per_row"]) for row in results.costs if row["network"] == TRAINED]
    return (
        f"cost: {items} items in {record.seconds / 60:.1f} min{of_processes(results)} "
        f"on {threads_of(results)} with {results.config.engine}, "
        f"{np.median(times):.1f} ms per row and step, peak memory "
        f"{record.peak_bytes / 2**30:.2f} GiB{' of one process' if results.processes > 1 else ''}"
    )


def of_processes(results: Results) -> str:
    """A remark on seconds that several processes took."""
    return f" (added up over {results.processes} processes)" if results.processes > 1 else ""


def threads_of(results: Results) -> str:
    """The number of threads, of each rank where several work side by side."""
    each = f"{results.threads} thread{'s' if results.threads > 1 else ''}"
    return f"{results.world} ranks of {each} each" if results.world > 1 else each


def _mean(per_image: Array) -> str:
    return f"{np.nanmean(per_image):.3f}"


def percent(share: Score) -> str:
    """A share with its interval."""
    return f"{100 * share.mean:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"
