"""Check what papers claim: list the claims, check them on runs, or make the runs that they need."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bench.command_line import add_options, typed_options
from bench.config import FORMATS, names
from bench.options.typed import output_file, typed_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.runs.results import Results
    from bench.verdicts.claim import Claim

_OWN = ("action", "names", "all", "models", "items", "shifts", "effects", "json", "format")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of each action."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    listing = actions.add_parser("list", help="list the claims, or explain the test of some")
    listing.add_argument("names", nargs="*", metavar="NAME", help="explain these claims")
    checking = actions.add_parser("check", help="check claims on finished runs")
    checking.add_argument("run", type=typed_path, nargs="+", help="run folder")
    checking.add_argument("--claims", type=names, help="check only these (default: all)")
    running = actions.add_parser("run", help="make the runs that claims need, then check them")
    running.add_argument("names", nargs="*", metavar="NAME", help="claims")
    running.add_argument("--all", action="store_true", help="all claims")
    running.add_argument(
        "--model",
        dest="models",
        type=names,
        default=("tiny",),
        help="names, folders or hub ids between commas (default tiny)",
    )
    running.add_argument(
        "--items", type=int, default=20, help="test items of edits (default %(default)s)"
    )
    running.add_argument(
        "--shifts", type=int, default=3, help="shifts per item of edits (default %(default)s)"
    )
    add_options(
        running,
        *("engine", "labeler", "guidance", "limit", "sampler_steps", "threads"),
        limit="use at most N items, training and test together (default 310)",
    )
    for action in (checking, running):
        action.add_argument("--effects", action="store_true", help="print every effect as well")
        action.add_argument("--json", type=output_file(), metavar="FILE", help="write the verdicts")
        action.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="of the tables")


def resumes(options: argparse.Namespace) -> bool:
    """Whether the same command continues where it was stopped."""
    return bool(options.action == "run")


def command(options: argparse.Namespace) -> int:
    """List, check or run."""
    if options.action == "list":
        return _list(options.names)
    if options.action == "check":
        return _check(options)
    return _run(options)


def _named(chosen: Sequence[str]) -> dict[str, Claim]:
    """Return claims by name, where a dash stands for an underscore; all without names."""
    from bench.registry import plugin, plugins

    known = [name.replace("-", "_") for name in chosen] or list(plugins("claim"))
    return {name: plugin("claim", name) for name in known}


def _list(chosen: Sequence[str]) -> int:
    from tabulate import tabulate

    claims = _named(chosen)
    if not chosen:
        table = [
            {
                "claim": name.replace("_", "-"),
                "source": claim.source,
                "read": "in full" if claim.read_in_full else "a summary",
                "sentence": claim.sentence,
            }
            for name, claim in claims.items()
        ]
        print(tabulate(table, headers="keys"))
        return 0
    for name, claim in claims.items():
        from inspect import getdoc

        print(f"{name.replace('_', '-')} ({claim.source})\n{claim.sentence}\n")
        print(f"{getdoc(claim.test)}\n")
    return 0


def _check(options: argparse.Namespace) -> int:
    from bench.runs.results import read_results

    claims = _named(options.claims or ())
    return _report(options, claims, [read_results(path) for path in options.run])


def _run(options: argparse.Namespace) -> int:
    from bench.errors import UserError
    from bench.verdicts.evidence import make_runs

    if options.names and options.all:
        raise UserError("--all runs every claim; leave it out, or the names of claims")
    if not options.names and not options.all:
        raise UserError("name claims to run, or give --all; python -m bench claim list shows them")
    if options.items < 2 or options.shifts < 1:
        raise UserError("--items must be at least 2 and --shifts at least 1")
    claims = _named(options.names)
    runs = make_runs(
        list(claims.values()),
        options.models,
        typed_options(options, *_OWN),
        options.items,
        options.shifts,
    )
    return _report(options, claims, runs)


def _once_each(runs: Sequence[Results]) -> list[Results]:
    """Leave out runs that are the same as an earlier one: they would count twice in every test."""
    kept: dict[str, Results] = {}
    for results in runs:
        first = kept.setdefault(results.fingerprint, results)
        if first is not results:
            print(f"{results.path} is the same run as {first.path}, and is counted once")
    return list(kept.values())


def _report(options: argparse.Namespace, claims: dict[str, Claim], runs: Sequence[Results]) -> int:
    from bench.report.tables import caveats
    from bench.verdicts.check import check, lines, write_verdicts

    runs = _once_each(runs)
    for results in runs:
        for caveat in caveats(results):
            print(f"{results.path}: {caveat}")
    checked = check(claims, runs)
    for line in lines(checked, options.effects, options.format):
        print(line)
    if options.json:
        write_verdicts(checked, options.json)
        print(f"file: {options.json}")
    return 0
