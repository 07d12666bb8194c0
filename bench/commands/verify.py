"""Check an entry of a ledger: generate some of its items again and compare their scores.

The scores must be equal to the bit on the same engine, machine and library versions, and within a
stated tolerance elsewhere. Exit code 1 when one is not.
"""

from __future__ import annotations

import argparse

from bench.command_line import add_options, typed_options
from bench.options.typed import typed_path

_SHOWN = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("entry", type=typed_path, help="folder of the entry, or its entry.json")
    add(
        "--items",
        type=int,
        default=8,
        metavar="N",
        help="generate at least N test items, in whole blocks (default %(default)s)",
    )
    add("--seed", type=int, help="seed that selects the items (default: a new one every time)")
    add_options(
        parser,
        *("model", "engine", "dataset", "prompts", "depth_model", "saliency_model", "threads"),
        model="the entry's model, as a folder (default: by its name)",
        dataset="the entry's file of prompts (default: its dataset)",
        engine="what executes the network (default: the entry's)",
        threads="CPU threads (default: the entry's)",
    )


def command(options: argparse.Namespace) -> int:
    """Print what was confirmed; 1 if something was not."""
    from bench.errors import UserError
    from bench.ledger.entries import read_entry
    from bench.ledger.verify import TOLERANCE, verify

    if options.items < 1:
        raise UserError(f"--items must be at least 1, not {options.items}")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed must be at least 0, not {options.seed}")
    entry = read_entry(options.entry)
    result = verify(
        entry, options.items, typed_options(options, "entry", "items", "seed"), options.seed
    )
    for sentence in result.inconsistent:
        print(sentence)
    for fault in result.faults[:_SHOWN]:
        print(fault)
    if len(result.faults) > _SHOWN:
        print(f"and {len(result.faults) - _SHOWN} more")
    how = "to the bit" if result.unlike is None else f"within {TOLERANCE:g} ({result.unlike})"
    print(
        f"{len(result.items)} of {len(entry.record.items)} test items generated again: "
        f"{result.scores - len(result.faults)} of {result.scores} scores are equal {how}, "
        f"largest difference {result.largest:.1e}"
    )
    if result.faults and result.unlike is None and result.largest <= TOLERANCE:
        print(
            f"all differences are within {TOLERANCE:g}, as between engines: processors of the same "
            "name can differ in their instructions"
        )
    print(f"{entry.path}: {'confirmed' if result.passed else 'not confirmed'}")
    return 0 if result.passed else 1
