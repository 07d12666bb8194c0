"""The small run of the fault suite, its undisturbed results, and comparisons with them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from tests.faults.process import ended

OPTIONS = (
    *("--limit", "24", "--sampler-steps", "2", "--layers", "mid", "--random-networks", "0"),
    *("--threads", "1", "--shard", "4"),
)
RESULTS = ("cells.csv", "scores.safetensors", "probes.safetensors", "learning.csv")
"""Files of a run folder without clock readings."""
_NUMBER = count()


def run(out: Path, *more: str) -> list[str]:
    """Command line of the small run."""
    return ["run", *OPTIONS, "--out", str(out), *more]


@dataclass(frozen=True, slots=True)
class World:
    """State that all faults share."""

    folder: Path
    """Folder for all files."""
    finished: Path
    """Run folder of an undisturbed run."""
    unfinished: Path
    """Folder of the same run with all shards of images and no results."""
    seconds: float
    """Duration of the undisturbed run."""
    rng: Random = field(default_factory=Random)

    def fresh(self, name: str) -> Path:
        """A path that does not exist."""
        return self.folder / f"{name}-{next(_NUMBER)}"

    @contextmanager
    def copied(self, folder: Path) -> Iterator[Path]:
        """A temporary copy of a folder."""
        copy = Path(shutil.copytree(folder, self.fresh(folder.name)))
        try:
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def unlike(self, folder: Path) -> str | None:
        """The difference of a run from the undisturbed one; None if all bits are equal."""
        return differing(self.finished, folder)

    def goes_on(self, arguments: list[str], folder: Path) -> str | None:
        """The fault of a run that is started again; None if it ends with the same bits."""
        again = ended(arguments)
        if again.code != 0:
            return f"the rerun ends with exit code {again.code}: {' | '.join(again.said[-3:])}"
        return self.unlike(folder)


def differing(one: Path, other: Path) -> str | None:
    """The first difference of two run folders."""
    if not (other / "run.json").exists():
        return "the run is not finished"
    for name in RESULTS:
        if not (other / name).exists() or (one / name).read_bytes() != (other / name).read_bytes():
            return f"{name} differs from that of an undisturbed run"
    stray = {path.name for path in other.iterdir() if not path.name.startswith(".lock")}
    stray -= {path.name for path in one.iterdir()}
    stray |= {path.name for path in shards_of(other)}
    return f"{min(stray)} was not removed" if stray else None


def paths_in(folder: Path) -> Iterator[Path]:
    """Yield the files and folders in a folder that a process may be changing.

    Unlike Path.rglob, os.walk passes over a folder that is removed meanwhile.
    """
    for inside, folders, files in os.walk(folder):
        yield from (Path(inside, name) for name in (*folders, *files))


def shards_of(folder: Path) -> dict[Path, int]:
    """Finished shard of a run folder -> its time of modification."""
    shards = {}
    for path in paths_in(folder / "shards"):
        if path.suffix != ".safetensors":
            continue
        try:
            shards[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            # A run that has just ended removes them.
            continue
    return shards
