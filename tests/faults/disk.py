"""Full and read-only disks: small file systems, where mounting is permitted."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.process import ended
from tests.faults.runs import World, run
from tests.faults.verdict import Outcome, Row, Trial, done, first, refused, refused_or, row

ROOM = "256m"
NOBODY = 65534
EDIT = (
    *("--items", "2", "--shifts", "1", "--choose-items", "0", "--methods", "pattern"),
    *("--strengths", "1", "--controls", "random", "--layers", "mid", "--steps", "1"),
    *("--threads", "1"),
)
"""Options of the smallest intervention."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system."""

    path: Path

    def remount(self, *options: str) -> None:
        """Change its size or make it read-only."""
        subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(self.path)], check=True)


@contextmanager
def disk(world: World, *options: str) -> Iterator[Disk | None]:
    """Mount a tmpfs with these options; None if mounting is not permitted."""
    path = world.fresh("disk")
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(path)]
    try:
        permitted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        permitted = False
    if not permitted:
        yield None
        return
    try:
        yield Disk(path)
    finally:
        # Lazily: a process that was just killed may still hold it.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def disks(world: World, full: int) -> Iterator[Row]:
    """Full disks, then read-only disks."""
    with disk(world, "size=64k") as tried:
        mounting = tried is not None
    if mounting:
        yield row("full disk (tmpfs of a few KiB, or of few files)", _full(world, full))
        yield row("read-only disk (tmpfs, mounted anew)", _read_only(world))
    else:
        yield row("full disk (no mounting here: RLIMIT_FSIZE)", _limited(world, full))
        yield row("read-only folder (no mounting here: its mode)", _unwritable(world))


def _full(world: World, count: int) -> Iterator[Trial]:
    used = sum(path.stat().st_size for path in world.unfinished.rglob("*") if path.is_file())
    total = used + sum(path.stat().st_size for path in world.finished.rglob("*") if path.is_file())
    limits = [f"size={world.rng.randint(1, max(1, total // 4096)) * 4}k" for _ in range(count - 2)]
    # Enough for the images' shards but not for the results; then a limit on the number of files.
    limits += [
        f"size={(used + world.rng.randint(0, 150_000)) // 1024}k",
        f"nr_inodes={world.rng.randint(2, 12)}",
    ]
    for limit in limits:
        with disk(world, limit) as small:
            assert small is not None
            out = small.path / "run"
            outcome = ended(run(out))
            complete = set(out.rglob("*.safetensors")) if outcome.code else set()
            small.remount(f"size={ROOM},nr_inodes=1000")
            again = world.goes_on(run(out), out)
            # If the limit was large enough, the run has ended well.
            wrong = first(refused_or(lambda _, out=out: world.unlike(out), outcome), again)  # type: ignore[misc]
            yield Trial(f"{limit}, {len(complete)} files were complete", outcome, wrong)


def _limited(world: World, count: int) -> Iterator[Trial]:
    """Limit the size of files, which is how a disk quota appears to a program."""
    for _ in range(count):
        most = world.rng.randint(100, 400_000)
        out = world.fresh("limited")
        outcome = ended(run(out), lambda most=most: _limit(most))  # type: ignore[misc]
        wrong = first(
            refused_or(lambda _, out=out: world.unlike(out), outcome), world.goes_on(run(out), out)
        )  # type: ignore[misc]
        yield Trial(f"files of at most {most} bytes", outcome, wrong)
        shutil.rmtree(out, ignore_errors=True)


def _limit(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _commands(
    world: World, unfinished: Path, finished: Path
) -> list[tuple[list[str], Callable[[Outcome], str | None]]]:
    """Commands, each with its check, for run folders that cannot be written."""
    return [
        (run(finished.parent / "new"), refused),
        (run(unfinished), refused),
        (["merge", str(unfinished)], refused),
        (run(unfinished, "--part", "1/2"), refused),
        (run(finished), refused),
        (["report", str(finished)], refused),
        (["intervene", str(finished), *EDIT], refused),
        (["adam-vs-ridge", str(finished), "--cells", "1", "--epochs", "1"], refused),
        # Commands that only read succeed.
        (["leaderboard", str(finished)], done),
        (["compare", str(world.finished), str(finished)], done),
    ]


def _read_only(world: World) -> Iterator[Trial]:
    with disk(world, f"size={ROOM}") as other:
        assert other is not None
        yield from _locked_up(
            world,
            other.path,
            lambda: other.remount("ro"),
            lambda: other.remount("rw"),
            lambda: None,
        )


def _unwritable(world: World) -> Iterator[Trial]:
    """Folders without write permission, for a user who is not root."""
    folder = world.fresh("unwritable")
    folder.mkdir()

    def become_nobody() -> None:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    yield from _locked_up(
        world,
        folder,
        lambda: _chmod(folder, 0o555, 0o444),
        lambda: _chmod(folder, 0o755, 0o644),
        become_nobody,
    )


def _chmod(folder: Path, folder_mode: int, file_mode: int) -> None:
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):
            path.chmod(folder_mode if path.is_dir() else file_mode)


def _locked_up(
    world: World,
    folder: Path,
    close: Callable[[], None],
    open_: Callable[[], None],
    prepare: Callable[[], None],
) -> Iterator[Trial]:
    unfinished = Path(shutil.copytree(world.unfinished, folder / "unfinished"))
    finished = Path(shutil.copytree(world.finished, folder / "finished"))
    for arguments, judge in _commands(world, unfinished, finished):
        close()
        try:
            outcome = ended(arguments, prepare)
        finally:
            open_()
        yield Trial(" ".join(arguments), outcome, judge(outcome))
    nothing = Outcome(0, "", "")
    yield Trial(
        "writable again",
        nothing,
        first(world.goes_on(run(unfinished), unfinished), world.unlike(finished)),
    )
