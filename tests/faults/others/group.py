"""Make what the cases share, and try them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.faults.others.case import SMALL, Case, Kit, trials
from tests.faults.others.models import MODELS
from tests.faults.others.networks import NETWORKS
from tests.faults.others.prompts import PROMPTS
from tests.faults.others.runs import RUNS, other_runs
from tests.faults.others.small import save_base
from tests.faults.process import ended
from tests.faults.runs import World
from tests.faults.verdict import Row, row

TABLE: dict[str, tuple[Case, ...]] = {
    "other people's models": MODELS,
    "other people's prompts": PROMPTS,
    "other people's labelers and images": NETWORKS,
    "other people's runs and options": RUNS,
}


def others(world: World) -> Iterator[Row]:
    """Try every case of the table."""
    kit = made(world.fresh("others"))
    for name, cases in TABLE.items():
        yield row(name, trials(cases, kit, world.fresh))


def made(folder: Path) -> Kit:
    """Save the model and finish the runs that the cases share."""
    from transformers.utils import logging

    # Saving a model would draw a progress bar.
    logging.disable_progress_bar()
    folder.mkdir()
    base = save_base(folder / "base")
    runs = {name: folder / name for name in other_runs(base, folder)}
    for name, options in other_runs(base, folder).items():
        outcome = ended(["run", *SMALL, "--out", str(runs[name]), *options])
        assert outcome.code == 0, outcome
    return Kit(base, runs)
