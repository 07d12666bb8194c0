"""Compare two runs, or two profiles: what moved, and is it a regression?

A figure regresses when it changed for the worse at a false discovery rate of 5 % over all that is compared, by more
than its tolerance; a time regresses when all of its interval is beyond it, for machines drift between two runs. Scores
are paired by image; times are compared as ratios of medians, in like environments only.
Exit code 1 on a regression, 2 when the two cannot be compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

_SHOWN = 40


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("base", type=Path, help="run or profile folder")
    parser.add_argument("new", type=Path, help="the one to judge, of the same kind")
    parser.add_argument(
        "--fail-on",
        metavar="FIGURE:SIZE,...",
        help="what may not get worse, and by how much it may, such as dice:0.01,latency:5%%,memory:10%%",
    )


def command(options: argparse.Namespace) -> int:
    """Print what moved; 1 if one of the named figures got worse."""
    from tabulate import tabulate

    from bench.regression.changes import largest, row
    from bench.regression.compare import compared

    found = compared(options.base, options.new, options.fail_on)
    for family in found.families:
        moved = [
            change for change in family.changes if change.moved(found.tolerated.get(change.name))
        ]
        print(f"{family.what}: {len(moved)} of {len(family.changes)} figures moved")
        shown = largest(family.changes, found.tolerated, _SHOWN)
        rows = [row(change, found.tolerated.get(change.name)) for change in shown]
        if rows:
            print(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True))
        left = [change for change in moved if change not in shown]
        if left:
            print(f"and {len(left)} more")
        print()
    for line in found.left_out:
        print(line)
    regressions = found.regressions
    if found.tolerated:
        print(
            f"{len(regressions)} regressions beyond {options.fail_on}"
            if regressions
            else "no regression"
        )
    return 1 if regressions else 0
