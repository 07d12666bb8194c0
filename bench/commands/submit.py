"""Add a finished run to a ledger, so that others can check its scores."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote

from bench.options.typed import output_folder, typed_path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=typed_path, help="run folder")
    parser.add_argument(
        "--ledger", type=output_folder, default=Path("ledger"), help="folder (default %(default)s)"
    )


def command(options: argparse.Namespace) -> int:
    """Write the entry and name it."""
    from bench.ledger.submit import submit
    from bench.runs.results import read_results

    folder = submit(read_results(options.run), options.ledger)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(
        f"entry: {folder} ({size / 1000:.0f} kB); check it with: "
        f"python -m bench verify {quote(str(folder))}"
    )
    return 0
