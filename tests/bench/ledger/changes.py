"""Change an entry, and make its checksums fit again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.ledger.entries import digests, read_arrays, read_entry, sha256, write_arrays
from bench.ledger.submit import sealed


def change_score(folder: Path, item: int, by: float) -> None:
    """Change one score of an item in ``scores.npz`` and nothing else."""
    scores = {name: table.astype(np.float32) for name, table in stored(folder).items()}
    scores["depth"][2, item] += by
    write_arrays(folder / "scores.npz", scores)


def stored(folder: Path) -> dict[str, np.ndarray]:
    return read_arrays(folder / "scores.npz")


def seal(folder: Path) -> None:
    """Make checksums and hashes fit what was changed, as a forger would."""
    document = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    tables = {name: table.astype(np.float32) for name, table in stored(folder).items()}
    for item, digest in zip(document["items"], digests(tables), strict=True):
        item["scores"] = digest
    (folder / "entry.json").write_text(json.dumps(document), encoding="utf-8")
    record = read_entry(folder).record
    sums = {name: sha256(folder / name) for name in ("scores.npz", "probes.npz")}
    text = sealed(record, sums).model_dump_json(by_alias=True)
    (folder / "entry.json").write_text(text, encoding="utf-8")


def edit(folder: Path, *changes: tuple[tuple[str | int, ...], Any]) -> None:
    """Change values of ``entry.json``, by their place."""
    document = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    for (*way, last), value in changes:
        part = document
        for key in way:
            part = part[key]
        part[last] = value
    (folder / "entry.json").write_text(json.dumps(document), encoding="utf-8")
