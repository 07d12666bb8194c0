"""Compare fitting probes by Adam, as the paper does, with ridge regression in closed form.

Generates the run's items again, fits the same cells both ways, scores both on the same test
images, and writes adam_vs_ridge.json into the run folder.
"""

from __future__ import annotations

import argparse

from bench.config import names
from bench.options.typed import typed_path
from bench.steps import parse_steps


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "run",
        type=typed_path,
        help="run folder; its items are generated again, its probes are ridge's",
    )
    add("--cells", type=int, default=6, help="compare at most so many cells (default %(default)s)")
    add("--epochs", type=int, default=30, help="of Adam (default %(default)s, the paper's)")
    add("--tasks", type=names, default=(), help="of maps of one channel (default saliency,depth)")
    add(
        "--layers",
        type=names,
        default=(),
        help="layers or blocks to choose from, by cross-validated loss (default all)",
    )
    add(
        "--steps",
        type=parse_steps,
        default=(),
        help="steps, counted from 1 (default 1, 5 and the last)",
    )
    add("--threads", type=int, help="CPU threads (default: all cores)")


def resumes(_: argparse.Namespace) -> bool:
    """Whether the same command continues where it was stopped: its fits are stored."""
    return True


def command(options: argparse.Namespace) -> int:
    """Fit, score, store and print."""
    from tabulate import tabulate

    from bench.adam_vs_ridge.cells import Choice
    from bench.adam_vs_ridge.experiment import compare_recipes
    from bench.adam_vs_ridge.results import RECIPE, rows, write_recipe
    from bench.runs.folder import RunFolder
    from bench.runs.results import read_results

    choice = Choice(options.cells, options.tasks, options.layers, options.steps, options.epochs)
    results = read_results(options.run)
    with RunFolder(results.path).locked():
        comparison = compare_recipes(results, choice, options.threads)
        write_recipe(results.path, comparison)
    table = rows(comparison.cells)
    print(tabulate(table, headers="keys", tablefmt="simple", disable_numparse=True))
    for note in comparison.notes:
        print(note)
    print(f"figures in {results.path / RECIPE}")
    return 0
