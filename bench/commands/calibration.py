"""Measure how often intervals and tests are wrong where the truth is known.

Exit code 1 when a rate is not what it should be. Printed intervals are of 95 % each; the verdict
uses simultaneous 95 % intervals.
"""

from __future__ import annotations

import argparse

from bench.config import Config, default_of, names
from bench.errors import UserError
from bench.options.typed import expanded, typed_path
from bench.steps import parse_steps

LEAST_CELLS = 20
_COMPARED_DRAWS = 2
"""Permutations whose scores are exchanged."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--cells", type=int, default=2400, help="cells of every trial (default %(default)s)")
    add("--draws", type=int, default=2000, help="bootstrap draws (default %(default)s)")
    add("--seed", type=int, default=0, help="random seed (default %(default)s)")
    add(
        "--run",
        type=typed_path,
        help="run folder whose per-image scores are drawn from (default: fresh probes' scores)",
    )
    add(
        "--model",
        type=expanded,
        default=default_of("model"),
        help="model whose activations are probed (default %(default)s)",
    )
    add(
        "--layers",
        type=names,
        default=("mid", "up1.1", "up2.0"),
        help="layers to probe (default mid,up1.1,up2.0)",
    )
    add(
        "--steps",
        type=parse_steps,
        default=(2, 5),
        help="steps to probe, of a sampler of five (default 2,5)",
    )
    add(
        "--limit",
        type=int,
        help="use at most N images, training and test together (default: all 617)",
    )


def command(options: argparse.Namespace) -> int:
    """Print the rates."""
    for name, least in (("cells", LEAST_CELLS), ("draws", 99), ("seed", 0)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} must be at least {least}, not {getattr(options, name)}")

    from tabulate import tabulate

    from bench.calibration.null_data import null_scores, read_pool
    from bench.calibration.rates import family_level, population, population_of_nulls, rates
    from bench.runs.results import read_results
    from bench.study import open_study
    from datasets.splits import count_items
    from probes.accumulate import DRAWS
    from probes.probe_set import PERMUTED, POSITION

    results = read_results(options.run) if options.run else None
    if results and not all(
        len({cell.draw for cell in task.where(probe=PERMUTED)}) >= _COMPARED_DRAWS
        for task in results.tasks.values()
        # The labels of whole images, which have no position, are not drawn from.
        if task.where(network=POSITION)
    ):
        raise UserError(
            f"{results.path} has fewer than {_COMPARED_DRAWS} probes of permuted labels in a cell, "
            "which the trials compare; give a run of more items, or leave --run out"
        )
    config = Config(
        model=options.model,
        layers=options.layers,
        steps=options.steps,
        sampler_steps=5,
        limit=options.limit,
        source="rendered",
        random_networks=0,
        threads=1,
    )
    study = open_study(config)
    if study.draws < DRAWS:
        raise UserError(
            f"--limit {options.limit}: the labels of so few training images have no {DRAWS} "
            "permutations; raise it"
        )
    nulls = null_scores(read_pool(study), study, options.cells, options.seed)
    source = population(results) if results else population_of_nulls(nulls)
    measured = rates(source, nulls, options.cells, options.draws, options.seed)
    level = family_level(measured)
    rows = []
    for rate in measured:
        low, high = rate.interval()
        nominal = f"{'at most ' if rate.at_most else ''}{100 * rate.nominal:.1f} %"
        verdict = "yes" if rate.is_right(level) else "no"
        rows.append(
            {
                "trial": rate.trial,
                "what": rate.what,
                "wrong": f"{rate.wrong} of {rate.cells}",
                "rate": f"{100 * rate.rate:.2f} % [{100 * low:.2f}, {100 * high:.2f}]",
                "should be": nominal if rate.judged else "-",
                "is": verdict if rate.judged else "-",
            }
        )
    train, test = (count_items(blocks) for blocks in (study.train, study.test))
    print(
        f"null data sets of {train} training and {test} test images; "
        f"scores drawn from {options.run or 'those'}"
    )
    print(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True))
    return 0 if all(rate.is_right(level) for rate in measured if rate.judged) else 1
