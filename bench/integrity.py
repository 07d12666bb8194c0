"""Whether a finished run's files are those that were written: checksums of its tables, and the form of its facts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import MistakeError

SUMS = "sha256"
"""The entry of ``run.json`` that holds file name -> SHA-256."""
_FACTS = {
    "tasks": dict, "layers": list, "steps": list, "networks": list, "guidance": int | float, "train_items": list,
    "test_items": list, "strip_prompts": list, "seconds": int | float, "peak_bytes": int, "processes": int,
    "threads": int, "world": int, SUMS: dict,
}  # fmt: skip
_OPTIONS = {"model": str, "engine": str, "batch": int, "threads": int | None}
_ENVIRONMENT = {"versions": dict, "cores": int}
_TASK = {"metrics": list, "higher_is_better": list, "unit": str}


def sums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The checksums of files, those that are there."""
    return {name: _sum(folder / name) for name in names if (folder / name).is_file()}


def refuse_changed(folder: Path, facts: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise MistakeError when one of the files is not the one that the run wrote."""
    known = facts[SUMS]
    for name in names:
        if name in known and known[name] != _sum(folder / name):
            raise MistakeError(
                f"the run folder {folder} is damaged ({name} is not the file that the run wrote); "
                "run its command again in another --out"
            )


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_malformed(options: Any, environment: Any, facts: Any) -> None:
    """Raise ValueError when one of a run's three records lacks what tables are made of, or has it in another form."""
    for what, found, wanted in (
        ("the options", options, _OPTIONS),
        ("the environment", environment, _ENVIRONMENT),
        ("run.json", facts, _FACTS),
    ):
        _refuse(what, found, wanted)
    for name, task in facts["tasks"].items():
        _refuse(f"task {name}", task, _TASK)
        _refuse_entries(f"the metrics of {name}", task["metrics"], str)
        _refuse_entries(f"higher_is_better of {name}", task["higher_is_better"], bool)
        if len(task["higher_is_better"]) != len(task["metrics"]):
            raise ValueError(f"{name} has {len(task['metrics'])} metrics, and more or fewer directions")
    for name in ("tasks", "layers", "steps", "networks", "test_items"):
        _refuse_entries(name, facts[name], int if name == "steps" else str)
    _refuse_entries("strip_prompts", facts["strip_prompts"] or [""], str)
    _refuse_entries("versions", list(environment["versions"].values()), str)


def _refuse(what: str, found: Any, wanted: Mapping[str, Any]) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{what} is no object")
    for name, kind in wanted.items():
        # True and false are whole numbers to Python.
        if name not in found or not isinstance(found[name], kind) or isinstance(found[name], bool):
            raise ValueError(f"{what} has no {name} of the right form")


def _refuse_entries(what: str, found: Iterable[Any], kind: type) -> None:
    entries = list(found)
    if not entries or any(type(entry) is not kind for entry in entries):
        raise ValueError(f"{what} holds nothing, or something of another form")
