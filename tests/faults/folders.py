"""Run folders with damaged files, given to every command that reads one."""

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
    "compare": lambda folder, undamaged: ["compare", undamaged, folder],
    "intervene": lambda folder, _: ["intervene", folder, *EDIT],
    "leaderboard of two": lambda folder, undamaged: ["leaderboard", undamaged, folder],
    "run again": lambda folder, _: run(Path(folder)),
}
"""Name -> command line for a damaged and an undamaged folder."""


def damaged_folders(world: World, count: int) -> Iterator[Row]:
    """``count`` run folders, each with random damage to a random file."""
    with world.copied(world.finished) as undamaged:
        # An intervention and a report write further files, which are read again.
        outcomes = [ended(["intervene", str(undamaged), *EDIT]), ended(["report", str(undamaged)])]
        assert all(done(outcome) is None for outcome in outcomes), outcomes
        yield row("run folders with a damaged file", _trials(world, undamaged, count))


def _trials(world: World, undamaged: Path, count: int) -> Iterator[Trial]:
    files = sorted(
        path.relative_to(undamaged)
        for path in undamaged.rglob("*")
        if path.is_file() and path.name != ".lock"
    )
    read = [path for path in files if path.suffix in (".json", ".csv", ".safetensors")]
    names = list(COMMANDS)
    usual: dict[str, str] = {}
    for number in range(count):
        path, name = world.rng.choice(read), names[number % len(names)]
        with world.copied(undamaged) as folder:
            damage, is_value = _damage(folder / path, world.rng)
            # A fixed name, which the outputs contain.
            copy = world.folder / "damaged"
            folder.rename(copy)
            try:
                outcome = ended(COMMANDS[name](str(copy), str(world.finished)))
                if name not in usual:
                    usual[name] = _undamaged(copy, undamaged, world, name)
            finally:
                shutil.rmtree(copy)
        # A value that another run could have cannot be detected.
        wrong = (
            refused(outcome)
            if outcome.code
            else done(outcome) or (None if is_value else _unlike(outcome, usual[name]))
        )
        yield Trial(f"{name}: {path} {damage}", outcome, wrong)


def _undamaged(copy: Path, undamaged: Path, world: World, name: str) -> str:
    """The output of a command for the undamaged folder."""
    shutil.rmtree(copy)
    shutil.copytree(undamaged, copy)
    return ended(COMMANDS[name](str(copy), str(world.finished))).printed


def _unlike(outcome: Outcome, usual: str) -> str | None:
    return (
        None
        if _figures(outcome.printed) == _figures(usual)
        else "it prints other figures than those of the undamaged run"
    )


def _figures(printed: str) -> str:
    """The output without clock readings, which differ between runs."""
    return re.sub(r"[\d.]+ s per trial|seconds per trial: .*", "", printed)


def _damage(path: Path, rng: Random) -> tuple[str, bool]:
    """Damage a file; return a description and whether the result is another valid value."""
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
    # A flipped bit of a JSON file may give another valid digit.
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
        description = f"without {'/'.join(where)}"
    else:
        node[key] = value
        description = f"{'/'.join(where)} = {value!r}"
    path.write_text(json.dumps(stored))
    return description, True
