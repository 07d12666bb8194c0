"""The small run that faults happen to, what it leaves when nothing happens, and whether another left the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from tests.faults.process import ended

OPTIONS = (
    "--limit", "24", "--sampler-steps", "2", "--layers", "mid", "--random-networks", "0", "--threads", "1",
    "--shard", "4",
)  # fmt: skip
RESULTS = ("cells.csv", "scores.safetensors", "probes.safetensors", "learning.csv")
"""What of a run folder has no clock reading in it."""
_PLACE = count()


def run(out: Path, *more: str) -> list[str]:
    """The command line of the small run."""
    return ["run", *OPTIONS, "--out", str(out), *more]


@dataclass(frozen=True, slots=True)
class World:
    """What all faults share."""

    folder: Path
    """For everything that is written."""
    finished: Path
    """The run folder of an undisturbed run."""
    unfinished: Path
    """The folder of the same run as one part leaves it: all shards of images, no results."""
    seconds: float
    """What the undisturbed run took."""
    rng: Random = field(default_factory=Random)

    def fresh(self, name: str) -> Path:
        """A path where nothing is."""
        return self.folder / f"{name}-{next(_PLACE)}"

    @contextmanager
    def copied(self, folder: Path) -> Iterator[Path]:
        """A copy of a folder, for as long as it is needed."""
        copy = Path(shutil.copytree(folder, self.fresh(folder.name)))
        try:
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def unlike(self, folder: Path) -> str | None:
        """In which file a finished run differs from the undisturbed one; None where every bit is the same."""
        return differing(self.finished, folder)

    def goes_on(self, arguments: list[str], folder: Path) -> str | None:
        """What is wrong with the end of a run that is started again; None where it ends with the same bits."""
        again = ended(arguments)
        if again.code != 0:
            return f"the rerun ends with exit code {again.code}: {' | '.join(again.said[-3:])}"
        return self.unlike(folder)


def differing(one: Path, other: Path) -> str | None:
    """The first file of results that differs."""
    if not (other / "run.json").exists():
        return "the run is not finished"
    for name in RESULTS:
        if not (other / name).exists() or (one / name).read_bytes() != (other / name).read_bytes():
            return f"{name} differs from that of an undisturbed run"
    stray = {path.name for path in other.iterdir() if not path.name.startswith(".lock")}
    stray -= {path.name for path in one.iterdir()}
    stray |= {path.name for path in shards_of(other)}
    return f"{min(stray)} was left behind" if stray else None


def shards_of(folder: Path) -> dict[Path, int]:
    """The finished shards of a run folder -> when they were written."""
    found = {}
    for path in (folder / "shards").rglob("*.safetensors"):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            # A run that ends meanwhile removes them.
            continue
    return found
