"""Print the tables of a run, of several runs side by side, or of a ledger.

Of a ledger, nothing is generated: models are compared by the scores in its entries, and
leaderboard.json, leaderboard.md and leaderboard.html are written into it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.config import FORMATS, names
from bench.options.typed import output_file, output_folder, typed_path
from bench.steps import AXES, BY_NOISE, BY_STEP

_OF_LEDGERS = (
    "across",
    "step",
    "layers",
    "out",
    "export_hub",
    "hub_model",
    "hub_dataset",
    "hub_url",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("run", type=typed_path, nargs="+", help="run folder, or one ledger")
    add("--format", choices=FORMATS, default=FORMATS[0], help="for a terminal, or Markdown")
    add(
        "--by",
        choices=AXES,
        help="name columns by step (default) or by noise level; several runs by log-snr are "
        "compared at equal noise levels",
    )
    ledger = parser.add_argument_group("of a ledger")
    add = ledger.add_argument
    add("--step", type=int, help="compare at this step, counted from 1 (default: the last)")
    add(
        "--across",
        type=names,
        help="compare entries although they differ in these, of sampler,steps,precision",
    )
    add("--layers", action="store_true", default=None, help="compare the layers of each model too")
    add("--out", type=output_folder, help="folder of the three files (default: the ledger)")
    add(
        "--export-hub", type=output_file(), metavar="FILE", help="write the Hub's evaluation format"
    )
    add("--hub-model", metavar="NAME", help="model to export, if the ledger has several")
    add("--hub-dataset", metavar="ID", help="the Hub's id of the benchmark (default: its name)")
    add("--hub-url", metavar="URL", help="source of the results")


def command(options: argparse.Namespace) -> int:
    """Print one run, several side by side, or a ledger."""
    from bench.command_line import flag
    from bench.errors import UserError
    from bench.ledger.entries import is_ledger
    from bench.runs.folder import CONFIG

    of_ledgers = [path for path in options.run if not (path / CONFIG).exists() and is_ledger(path)]
    if of_ledgers and len(options.run) > 1:
        raise UserError(f"{of_ledgers[0]} is a ledger, which is shown alone; leave the others out")
    if of_ledgers:
        if options.by is not None:
            raise UserError(f"--by is for runs, and {of_ledgers[0]} is a ledger; leave it out")
        return _ledger(options, of_ledgers[0])
    for name in _OF_LEDGERS:
        if getattr(options, name) is not None:
            raise UserError(f"{flag(name)} is for a ledger, and {options.run[0]} is none")
    from bench.report.side_by_side import print_at_levels, print_comparison
    from bench.report.tables import print_run
    from bench.runs.results import read_results

    runs = [read_results(path) for path in options.run]
    if len(runs) == 1:
        print_run(runs[0], options.format, options.by or BY_STEP)
    elif options.by == BY_NOISE:
        print_at_levels(runs, options.format)
    else:
        print_comparison(runs, options.format)
    return 0


def _ledger(options: argparse.Namespace, folder: Path) -> int:
    from bench.command_line import flag
    from bench.errors import UserError
    from bench.ledger.entries import read_ledger
    from bench.ledger.hub import export_hub
    from bench.ledger.leaderboard import leaderboard, lines
    from bench.ledger.write import write_board

    for name in ("hub_model", "hub_dataset", "hub_url"):
        if getattr(options, name) is not None and options.export_hub is None:
            raise UserError(
                f"{flag(name)} is for --export-hub; add that, or leave {flag(name)} out"
            )
    entries = read_ledger(folder)
    board = leaderboard(entries, options.across or (), options.step)
    if options.export_hub:
        count = export_hub(
            entries, options.export_hub, options.hub_model, options.hub_dataset, options.hub_url
        )
    paths = write_board(board, entries, options.out or folder)
    for line in lines(board, options.format, bool(options.layers)):
        print(line)
    print(f"\nfiles: {', '.join(map(str, paths))}")
    if options.export_hub:
        print(f"{count} results in the Hub's format: {options.export_hub}")
    return 0
