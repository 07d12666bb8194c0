"""Find regressions between two runs or two profiles.

A figure regresses when it is worse by more than its tolerance, at a false discovery rate of 5 %
over all scores, and over all times and memory. A time regresses when its whole interval lies
beyond the tolerance, since machines drift between runs. Scores are paired by image; times are
compared as ratios of medians, in like environments only. Exit code 1 on a regression, 2 when the
two cannot be compared.
"""

from __future__ import annotations

import argparse

from bench.options.typed import typed_path

_SHOWN = 40


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("base", type=typed_path, help="run or profile folder")
    parser.add_argument("new", type=typed_path, help="folder of the same kind to judge")
    parser.add_argument(
        "--fail-on",
        metavar="FIGURE:SIZE,...",
        help="figures and their tolerances, such as dice:0.01,latency:5%%,memory:10%%",
    )


def command(options: argparse.Namespace) -> int:
    """Print what changed; 1 if one of the named figures regressed."""
    from tabulate import tabulate

    from bench.regression.changes import largest, row
    from bench.regression.compare import compared

    comparison = compared(options.base, options.new, options.fail_on)
    for line in comparison.unequal:
        print(line)
    for family in comparison.families:
        moved = [
            change
            for change in family.changes
            if change.moved(comparison.tolerated.get(change.name))
        ]
        print(f"{family.what}: {len(moved)} of {len(family.changes)} figures moved")
        shown = largest(family.changes, comparison.tolerated, _SHOWN)
        rows = [row(change, comparison.tolerated.get(change.name)) for change in shown]
        if rows:
            print(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True))
        left = [change for change in moved if change not in shown]
        if left:
            print(f"and {len(left)} more")
        print()
    for line in comparison.left_out:
        print(line)
    regressions = comparison.regressions
    if comparison.tolerated:
        print(
            f"{len(regressions)} regressions beyond {options.fail_on}"
            if regressions
            else "no regression"
        )
    return 1 if regressions else 0
