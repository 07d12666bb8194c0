"""The summary that a run prints: every task's best layer at two steps beside its controls."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.analysis.emergence import emergence
from bench.config import COMMAND
from bench.report.tables import caveats, percent, threads_of
from bench.runs.results import Results, TaskResults
from bench.steps import EARLY_STEP, number_of
from extract.networks import CLEAN, INPUT, TRAINED
from probes.probe_set import ACTIVATIONS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION

_COLUMNS = (
    *("layer", "score", "permuted labels"),
    *("noisy latent", "clean latent", "permuted weights"),
)
_ABSENT = "-"


def print_summary(results: Results, page: Path) -> None:
    """Print the summary, and the report's path."""
    print("\n".join(summary_lines(results, page)))


def summary_lines(results: Results, page: Path) -> list[str]:
    """Return the lines of the summary.

    Layers are chosen by cross-validated loss on training images; scores are means over test
    images. Of several random networks the mean is shown.
    """
    titles = {name: _title(task) for name, task in results.tasks.items()}
    width = max(18, *(len(title) for title in titles.values())) + 2
    layer_width = max(len(_COLUMNS[0]), *(len(layer) for layer in results.layers))
    lines = [*caveats(results), _cost(results)]
    for name, task in results.tasks.items():
        lines.append(titles[name].ljust(width) + _row(_COLUMNS, layer_width))
        for step in dict.fromkeys((_early_step(results.steps), results.steps[-1])):
            label = f"  step {number_of(step)}"
            lines.append(label.ljust(width) + _row(_cells(results, task, step), layer_width))
        lines.append(_baseline_line(results, task, width, layer_width))
    return [
        *lines,
        f"report: {page}",
        f"full tables: {COMMAND} leaderboard {shlex.quote(str(results.path))}",
    ]


def _early_step(steps: Sequence[int]) -> int:
    """Return step 5; where it is not probed, the first probed step after it, else the last one."""
    return next((step for step in steps if step >= EARLY_STEP), steps[-1])


def _title(task: TaskResults) -> str:
    metric = "RMSE" if task.headline == "rmse" else task.headline.capitalize()
    return f"{task.name}, {metric}{f' ({task.unit})' if task.unit else ''}"


def _cost(results: Results) -> str:
    train, test = len(results.record.train_items), len(results.record.test_items)
    processes = f" (sum of {results.processes} processes)" if results.processes > 1 else ""
    return (
        f"{train + test} items ({train} training, {test} test) in "
        f"{results.record.seconds / 60:.1f} min{processes} on {threads_of(results)} with "
        f"{results.config.engine}"
    )


def _cells(results: Results, task: TaskResults, step: int) -> tuple[str, ...]:
    """Return the layer, its score and those of the controls at one step."""
    best = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
    if best is None:
        return (_ABSENT,) * len(_COLUMNS)
    permuted = task.where(network=TRAINED, step=step, probe=PERMUTED, layer=best.layer)
    latents = (
        task.where(network=network, step=step, probe=ACTIVATIONS) for network in (INPUT, CLEAN)
    )
    random = [
        task.best(network=network, step=step, probe=ACTIVATIONS)
        for network in results.random_networks
    ]
    return (
        best.layer,
        _mean([task.score(best)]),
        _mean(task.score(cell) for cell in permuted),
        *(_mean(task.score(cell) for cell in cells) for cells in latents),
        _mean(task.score(cell) for cell in random if cell),
    )


def _baseline_line(results: Results, task: TaskResults, width: int, layer_width: int) -> str:
    """Return the scores with position and without activations, and the share at the early step."""
    both = task.best(network=TRAINED, step=results.steps[-1], probe=WITH_POSITION)
    position = task.best(network=POSITION)
    if both is None or position is None:
        # Labels of whole images have no position.
        (mean_map,) = task.where(network=MEAN_MAP)
        name, floor = "mean training label", _mean([task.score(mean_map)])
        start = "  "
    else:
        name, floor = "position alone", _mean([task.score(position)])
        cells = (both.layer, _mean([task.score(both)]))
        start = "  with position".ljust(width) + _row(cells, layer_width) + "  "
    return f"{start}{name} {floor}{_share(results, task)}"


def _share(results: Results, task: TaskResults) -> str:
    gain = emergence(results, task)
    step = _early_step(results.steps)
    if not gain.share:
        return f"; no gain over it was seen ({gain.final})"
    if step == results.steps[-1]:
        return ""
    share = percent(gain.share[results.steps.index(step)])
    return f"; {share} of this gain at step {number_of(step)}"


def _row(cells: Sequence[str], layer_width: int) -> str:
    layer, *scores = cells
    columns = [score.rjust(len(name)) for score, name in zip(scores, _COLUMNS[1:], strict=False)]
    return "  ".join([layer.ljust(layer_width), *columns])


def _mean(scores: Iterable[NDArray[np.float64]]) -> str:
    """Return the mean over images and, where there are several, over draws or networks."""
    tables = list(scores)
    return f"{np.nanmean(tables):.3f}" if tables else _ABSENT
