"""A case: how its files are made, the command that reads them, and what the command must say."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.process import start
from tests.faults.verdict import Outcome, Trial, done, first, refused

SECONDS = 60
"""The longest that a command may take."""
SMALL = (
    *("--limit", "12", "--sampler-steps", "1", "--random-networks", "0", "--threads", "1"),
    *("--guidance", "3", "--engine", "torch_eager", "--layers", "mid"),
)
"""Options of a run of a few seconds."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What the cases share; none of them changes it."""

    base: Path
    """A small random model of Stable Diffusion's kind."""
    runs: dict[str, Path]
    """Finished runs by name."""


Make = Callable[[Kit, Path], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    make: Make
    """Makes the files of the case in an empty folder."""
    command: str
    """Words with {folder}, {out}, {base} and the names of runs; RUN stands for a small run."""
    says: str
    """What the sentence, or the output of a success, must contain."""
    code: int = 2


def trial(case: Case, kit: Kit, folder: Path) -> Trial:
    """Try one case in a folder of its own, which is removed."""
    folder.mkdir()
    try:
        case.make(kit, folder)
        begun = time.monotonic()
        child = start(words(case, kit, folder))
        is_over = child.wait(seconds=SECONDS)
        outcome = child.outcome() if is_over else _hung(child.kill)
        seconds = time.monotonic() - begun
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    late = None if seconds <= SECONDS else f"it took {seconds:.0f} s"
    return Trial(case.name, outcome, first(late, verdict(case, outcome)))


def verdict(case: Case, outcome: Outcome) -> str | None:
    """What is not as the table says."""
    if case.code == 0:
        text = outcome.printed + outcome.error
        wrong = done(outcome)
    else:
        text = outcome.said[-1] if outcome.said else ""
        wrong = refused(outcome)
    return first(wrong, None if case.says in text else f"it does not say {case.says!r}")


def words(case: Case, kit: Kit, folder: Path) -> list[str]:
    """The command line; paths may hold spaces, since they are filled in after the split."""
    paths = {"folder": folder, "out": folder / "out", "base": kit.base, **kit.runs}
    line: list[str] = []
    for word in case.command.split():
        if word == "RUN":
            line += ["run", *SMALL, "--out", str(paths["out"])]
        else:
            line.append(word.format(**paths))
    return line


def _hung(kill: Callable[[], None]) -> Outcome:
    kill()
    return Outcome(-9, "", f"killed after {SECONDS} s")


def nothing(kit: Kit, folder: Path) -> None:
    """Make no files."""


def edit(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def trials(cases: Sequence[Case], kit: Kit, fresh: Callable[[str], Path]) -> Iterator[Trial]:
    """Try all cases."""
    for case in cases:
        yield trial(case, kit, fresh("other"))
