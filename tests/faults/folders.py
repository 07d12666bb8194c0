"""Run folders with damaged files, handed to every command that reads one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.disk import EDIT
from tests.faults.models import WRONG
from tests.faults.process import ended
from tests.faults.runs import World, run
from tests.faults.shards import DAMAGES
from tests.faults.verdict import Outcome, Row, Trial, done, refused, row

COMMANDS: dict[str, Callable[[str, str], list[str]]] = {
    "leaderboard": lambda folder, _: ["leaderboard", folder],
    "report": lambda folder, _: ["report", folder],
    "compare": lambda folder, whole: ["compare", whole, folder],
    "intervene": lambda folder, _: ["intervene", folder, *EDIT],
    "leaderboard of two": lambda folder, whole: ["leaderboard", whole, folder],
    "run again": lambda folder, _: run(Path(folder)),
}
"""What is done with a folder, given beside a whole one."""


def damaged_folders(world: World, count: int) -> Iterator[Row]:
    """Every file of a run folder is damaged in every way, in a random order, until ``count`` folders were tried."""
    with world.copied(world.finished) as whole:
        # An intervention and a report leave files of their own, which are read again.
        made = [ended(["intervene", str(whole), *EDIT]), ended(["report", str(whole)])]
        assert all(done(outcome) is None for outcome in made), made
        yield row("run folders with a damaged file", _trials(world, whole, count))


def _trials(world: World, whole: Path, count: int) -> Iterator[Trial]:
    files = sorted(
        path.relative_to(whole)
        for path in whole.rglob("*")
        if path.is_file() and path.name != ".lock"
    )
    read = [path for path in files if path.suffix in (".json", ".csv", ".safetensors")]
    names = list(COMMANDS)
    usual: dict[str, str] = {}
    for number in range(count):
        path, name = world.rng.choice(read), names[number % len(names)]
        with world.copied(whole) as folder:
            given, is_value = _damage(folder / path, world.rng)
            # To the command every folder has the same name.
            site = world.folder / "looked-at"
            folder.rename(site)
            try:
                outcome = ended(COMMANDS[name](str(site), str(world.finished)))
                if name not in usual:
                    usual[name] = _undamaged(site, whole, world, name)
            finally:
                shutil.rmtree(site)
        # A value that another run might have had is no damage that can be seen.
        wrong = (
            refused(outcome)
            if outcome.code
            else done(outcome) or (None if is_value else _unlike(outcome, usual[name]))
        )
        yield Trial(f"{name}: {path} {given}", outcome, wrong)


def _undamaged(site: Path, whole: Path, world: World, name: str) -> str:
    """What a command prints of the folder when nothing happened to it."""
    shutil.rmtree(site)
    shutil.copytree(whole, site)
    return ended(COMMANDS[name](str(site), str(world.finished))).printed


def _unlike(outcome: Outcome, usual: str) -> str | None:
    return (
        None
        if _figures(outcome.printed) == _figures(usual)
        else "it prints other figures than those of the undamaged run"
    )


def _figures(printed: str) -> str:
    """What is printed without clock readings, which differ where something is generated again."""
    return re.sub(r"[\d.]+ s per trial", "", printed)


def _damage(path: Path, rng: Random) -> tuple[str, bool]:
    """Damage a file; say how, and whether what stands there could be meant."""
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.6:
        try:
            return _other_value(path, json.loads(content), rng)
        except (TypeError, IndexError):
            pass
    if rng.random() < 0.2:
        path.unlink()
        return "missing", False
    damage = rng.choice(DAMAGES)
    path.write_bytes(damage(content, rng) if content else b"x")
    # A flipped bit of a JSON file may be another digit, which nothing tells from the right one.
    return damage.__name__, path.suffix == ".json"


def _other_value(path: Path, stored: Any, rng: Random) -> tuple[str, bool]:
    """Replace or drop one value, anywhere in the file."""
    node, where = stored, []
    while True:
        key = rng.choice(sorted(node) if isinstance(node, dict) else range(len(node)))
        where.append(str(key))
        if not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.4:
            break
        node = node[key]
    value = rng.choice(WRONG)
    if rng.random() < 0.4:
        del node[key]
        given = f"without {'/'.join(where)}"
    else:
        node[key] = value
        given = f"{'/'.join(where)} = {value!r}"
    path.write_text(json.dumps(stored))
    return given, True
