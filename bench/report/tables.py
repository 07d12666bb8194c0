"""Tables for the terminal: one run layer by layer with its controls, or several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from bench.analysis.comparisons import Comparison
from bench.analysis.curves import constant, curve
from bench.analysis.emergence import Emergence, catching_up_line, onset_words
from bench.analysis.findings import Findings, found_in
from bench.analysis.significance import Discoveries, at_rate
from bench.config import FORMATS
from bench.runs.results import Results, TaskResults
from bench.steps import EARLY_STEP
from extract.networks import INPUT, TRAINED
from probes.accumulate import DRAWS
from probes.bootstrap import Score, score_of
from probes.probe_set import (
    ACTIVATIONS,
    CEILING,
    EQUAL_WIDTH,
    FOREGROUND,
    MEAN_MAP,
    PERMUTED,
    POSITION,
    WITH_POSITION,
)

UNTRAINED = "untrained weights: the weights are random, and no score says anything about the model"


def print_run(results: Results, form: str = FORMATS[0]) -> None:
    """Print everything a run found, in tables."""
    found = found_in(results)
    for caveat in caveats(results):
        print(f"\n{caveat}")
    for name, task in results.tasks.items():
        print(f"\n{title(task)}\n")
        _print_table(layer_rows(results, task), form)
        for line in (
            baseline_line(results, task),
            emergence_line(found.emergence[name]),
            strata_line(found, name),
        ):
            if line:
                _print_line(line, form)
    print(
        "\nDoes the trained model know more? Best layer (chosen on training images) against each control,"
    )
    print("paired over test images; a gain above zero speaks for the model.\n")
    _print_table([comparison_row(entry) for entry in found.comparisons], form)
    for line in held_lines(found):
        _print_line(line, form)
    _print_paper(results, found, form)
    print(f"\n{cost_line(results)}")


def caveats(results: Results) -> list[str]:
    """What must be said before any score."""
    found = [UNTRAINED] if results.untrained else []
    draws = {cell.draw for task in results.tasks.values() for cell in task.where(probe=PERMUTED)}
    if len(draws) < DRAWS:
        train, test = map(len, (results.record.train_items, results.record.test_items))
        found.append(
            f"a trial of {train} training and {test} test images: {len(draws) or 'no'} draws of permuted labels "
            f"instead of {DRAWS}; scores of so few say little"
        )
    return found


def _print_paper(results: Results, found: Findings, form: str) -> None:
    """The paper's comparisons, if the run watched any."""
    if not found.paper:
        return
    print(
        "\nThe trained network's probes against every other reading that was watched, paired over test images\n"
    )
    _print_table([comparison_row(entry) for entry in found.paper], form)
    _print_line(held_line(found.paper), form)
    for task, entries in found.catching_up.items():
        _print_line(catching_up_line(results, task, entries), form)


def _print_table(rows: Sequence[dict[str, str]], form: str) -> None:
    print(tabulate(rows, headers="keys", tablefmt=form, disable_numparse=True))


def _print_line(line: str, form: str) -> None:
    # Markdown would run lines together.
    print(line if form == FORMATS[0] else f"\n{line}")


def print_comparison(runs: Sequence[Results], form: str = FORMATS[0]) -> None:
    """Print several runs side by side, best layer at the last step."""
    rows = []
    for results in runs:
        row = {
            "run": str(results.path),
            "model": results.config.model,
            "engine": results.config.engine,
        }
        row["test items"] = str(len(results.record.test_items))
        for task in results.tasks.values():
            points = curve(results, task, TRAINED, ACTIVATIONS)
            row[f"{task.name}: {measure(task)}"] = f"{points[-1][2]} {points[-1][1]}"
        row["minutes"] = f"{results.record.seconds / 60:.1f}{_of_processes(results)}"
        row["peak GiB"] = f"{results.record.peak_bytes / 2**30:.2f}"
        rows.append(row)
    _print_table(rows, form)


def measure(task: TaskResults) -> str:
    """The headline metric with its unit and direction."""
    unit = f" ({task.unit})" if task.unit else ""
    return f"{task.headline}{unit}{'' if task.higher_is_better[0] else ', lower is better'}"


def title(task: TaskResults) -> str:
    """What a task's table shows."""
    images = task.scores.shape[-1]
    return f"{task.name}: {measure(task)}; {images} test images, 95 % intervals over images"


def layer_rows(results: Results, task: TaskResults) -> list[dict[str, str]]:
    """One row per layer at the last step, with the earlier steps and the controls beside it."""
    last, rows = results.steps[-1], []
    early = [step for step in (0, 4) if step in results.steps and step != last]
    for layer in results.layers:
        (alone,) = task.where(network=TRAINED, layer=layer, step=last, probe=ACTIVATIONS)
        permuted = task.where(network=TRAINED, layer=layer, step=last, probe=PERMUTED)
        row = {"layer": layer, "tokens": f"{alone.side}x{alone.side}"}
        for step in early:
            (cell,) = task.where(network=TRAINED, layer=layer, step=step, probe=ACTIVATIONS)
            row[f"step {step + 1}"] = _mean(task.score(cell))
        row[f"step {last + 1}"] = str(score_of(task.score(alone)))
        for both in task.where(network=TRAINED, layer=layer, step=last, probe=WITH_POSITION):
            row["with position"] = str(score_of(task.score(both)))
        narrow = task.where(network=TRAINED, layer=layer, step=last, probe=EQUAL_WIDTH)
        if task.where(probe=EQUAL_WIDTH):
            row["equal width"] = _mean(task.score(narrow[0])) if narrow else "-"
        if permuted:
            row["permuted"] = _mean(np.mean([task.score(cell) for cell in permuted], axis=0))
        random = [
            task.score(cell)
            for name in results.random_networks
            for cell in task.where(network=name, layer=layer, step=last, probe=ACTIVATIONS)
        ]
        if random:
            row["random"] = _mean(np.mean(random, axis=0))
        (ceiling,) = task.where(network=CEILING, side=alone.side)
        row["ceiling"] = _mean(task.score(ceiling))
        rows.append(row)
    return rows


def baseline_line(results: Results, task: TaskResults) -> str:
    """The baselines that belong to no layer."""
    parts = []
    mean = "mean training map" if task.where(network=POSITION) else "mean training label"
    for name, network in (
        ("position alone", POSITION),
        (mean, MEAN_MAP),
        ("all foreground", FOREGROUND),
    ):
        found = constant(task, network)
        if found:
            parts.append(f"{name} {found[1]}")
    latent = curve(results, task, INPUT, ACTIVATIONS)
    if latent:
        parts.append(f"the latent itself at step {latent[-1][0] + 1} {latent[-1][2]}")
    return "baselines: " + "; ".join(parts)


def emergence_line(found: Emergence) -> str:
    """When the knowledge is there."""
    layer = f"{found.layer}{' with position' if found.over == POSITION else ''}"
    over = found.over if found.over == POSITION else "the mean training label"
    if found.emerged is None:
        return f"emergence: {layer} has no gain over {over} at the last step: {found.final}"
    when = onset_words(found.emerged, [step + 1 for step in found.steps])
    text = f"emergence: {layer} keeps 90 % of its final gain over {over} from {when} on"
    if EARLY_STEP in found.steps and found.steps[-1] != EARLY_STEP:
        early = found.share[found.steps.index(EARLY_STEP)]
        text += f"; at step {EARLY_STEP + 1} it has {_percent(early)} of it"
    return text


def strata_line(found: Findings, task: str) -> str | None:
    """The best layer's scores on images of small, medium and large objects; None where areas are not known."""
    if task not in found.strata:
        return None
    layer, sizes = found.strata[task]
    parts = [
        f"{size.name} ({100 * size.low_area:.0f} to {100 * size.high_area:.0f} %) {size.score}"
        for size in sizes
    ]
    return f"by size of the object, {layer}: {'; '.join(parts)}"


def comparison_row(entry: Comparison) -> dict[str, str]:
    """A comparison as a table row."""
    return {
        "task": entry.task,
        "step": str(entry.step + 1),
        "against": entry.what,
        "layer": entry.ours,
        "score": f"{entry.our_score:.3f}",
        "its layer": entry.theirs,
        "its score": f"{entry.their_score:.3f}",
        "gain": str(entry.gain),
        "q": f"{entry.q:.4f}",
        "holds": "yes" if entry.holds else "no",
    }


def held_lines(found: Findings) -> list[str]:
    """What is said of all controls at once."""
    return [held_line(found.comparisons), *(discovery_line(asked) for asked in found.discoveries)]


def held_line(entries: Sequence[Comparison]) -> str:
    """How many comparisons hold, of how many."""
    holding = sum(entry.holds for entry in entries)
    return f"{holding} of {len(entries)} comparisons hold {at_rate(len(entries))}"


def discovery_line(asked: Discoveries) -> str:
    """In how many cells the answer is yes."""
    return f"{asked.held.sum()} of {len(asked.cells)} cells are {asked.question} {at_rate(asked.comparisons)}"


def cost_line(results: Results) -> str:
    """What the run cost."""
    record = results.record
    items = len(record.train_items) + len(record.test_items)
    times = [float(row["median_ms_per_row"]) for row in results.costs if row["network"] == TRAINED]
    return (
        f"cost: {items} items in {record.seconds / 60:.1f} min{_of_processes(results)} on {_threads(results)} with "
        f"{results.config.engine}, {np.median(times):.1f} ms per row and step, "
        f"peak memory {record.peak_bytes / 2**30:.2f} GiB{' of one process' if results.processes > 1 else ''}"
    )


def _of_processes(results: Results) -> str:
    """What the seconds are of, where it needs to be said."""
    return f" (added up over {results.processes} processes)" if results.processes > 1 else ""


def _threads(results: Results) -> str:
    each = f"{results.threads} thread{'s' if results.threads > 1 else ''}"
    return f"{results.world} ranks of {each} each" if results.world > 1 else each


def _mean(per_image: np.ndarray) -> str:
    return f"{np.nanmean(per_image):.3f}"


def _percent(share: Score) -> str:
    return f"{100 * share.mean:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"
