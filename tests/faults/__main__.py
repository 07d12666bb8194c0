"""Inject every fault into a run of the shipped model and print a table of the outcomes.

The exit code is 0 if all outcomes are as promised, else 1. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.runs import World
    from tests.faults.verdict import Row

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_FAULT, _EXAMPLE = 30, 80
"""Widths of the columns."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all faults and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=20, help="kills of whole runs (default %(default)s)"
    )
    parser.add_argument(
        "--inputs", type=int, default=200, help="malformed inputs, about (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all random choices (default %(default)s)"
    )
    parser.add_argument("--only", help="only faults whose name begins so, such as kills")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with TemporaryDirectory(prefix="scenebench-faults-") as folder:
        # Before imports that start threads, use the network or write to the user's cache.
        os.environ.update(
            _ONE_THREAD, HF_HUB_OFFLINE="1", SCENEBENCH_CACHE=f"{folder}/cache", TMPDIR=folder
        )
        from tests.faults.verdict import listed

        rows = list(_rows(Path(folder), options))
        if not rows:
            parser.error(f"no fault has a name that begins with {options.only}")
        failures = list(listed(rows))
    print(_table(rows, folder))
    print(f"\nseed {options.seed}, {time.monotonic() - started:.0f} s")
    for line in failures:
        print(f"not as promised: {line}".replace(folder, "..."))
    return 1 if failures else 0


def _rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    from tests.faults.disk import disks
    from tests.faults.downloads import downloads
    from tests.faults.entries import changed_entries
    from tests.faults.folders import damaged_folders
    from tests.faults.inputs import malformed_inputs
    from tests.faults.kills import kills
    from tests.faults.locks import locks
    from tests.faults.models import damaged_models
    from tests.faults.others.group import others
    from tests.faults.process import warm_up
    from tests.faults.shards import damaged_shards

    warm_up()
    world = _world(folder, options.seed)
    n = options.inputs
    plan = {
        "kills": lambda: kills(world, options.kills),
        "disks": lambda: disks(world, max(3, options.kills // 4)),
        "shards": lambda: damaged_shards(world, n // 15),
        "models": lambda: damaged_models(world, n // 8),
        "inputs": lambda: malformed_inputs(world, n // 5, n // 2),
        "folders": lambda: damaged_folders(world, n // 5),
        "entries": lambda: changed_entries(world, n // 5),
        "others": lambda: others(world),
        "locks": lambda: locks(world),
        "downloads": lambda: downloads(world),
    }
    for name, make in plan.items():
        if name.startswith(options.only or ""):
            begun = time.monotonic()
            for row in make():
                print(
                    f"{row.fault}: {len(row.trials)} tried, {len(row.failures)} failed",
                    file=sys.stderr,
                )
                yield row
            print(f"  {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)


def _world(folder: Path, seed: int) -> World:
    """An undisturbed run, and the same run with its shards but no results."""
    from tests.faults.process import ended
    from tests.faults.runs import World, run
    from tests.faults.verdict import done

    finished, unfinished = folder / "finished", folder / "unfinished"
    ended(run(unfinished, "--part", "1/1"))
    begun = time.monotonic()
    outcome = ended(run(finished))
    assert done(outcome) is None, outcome
    return World(folder, finished, unfinished, time.monotonic() - begun, Random(seed))


def _table(rows: Sequence[Row], folder: str) -> str:
    from tabulate import tabulate

    tried = [len(row.trials) for row in rows]
    passed = [len(row.trials) - len(row.failures) for row in rows]
    lines = [
        _line(row.fault, *counts, row.example.replace(folder, "."))
        for row, *counts in zip(rows, tried, passed, strict=True)
    ]
    lines.append(_line("total", sum(tried), sum(passed), ""))
    return tabulate(lines, headers="keys", tablefmt="simple_grid")


def _line(fault: str, tried: int, passed: int, message: str) -> dict[str, object]:
    return {
        "fault": textwrap.fill(fault, _FAULT),
        "tried": tried,
        "as promised": passed,
        "an example of the message": textwrap.fill(message, _EXAMPLE, break_on_hyphens=False),
    }


if __name__ == "__main__":
    sys.exit(main())
