"""Entries with chosen scores, written as a ledger has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.ledger.entries import digests, sha256, summarised, write_arrays
from bench.ledger.records import (
    SCHEMA,
    CellRecord,
    DatasetRecord,
    EntryRecord,
    ItemRecord,
    LabelerRecord,
    MachineRecord,
    ModelRecord,
    SamplerRecord,
    TaskRecord,
)
from bench.ledger.submit import sealed

ITEMS = 60


def scores(mean: float, seed: int, items: int = ITEMS) -> np.ndarray:
    """Scores of images that differ much, and alike for every entry."""
    image = np.random.default_rng(0).normal(0, 0.1, items)
    noise = np.random.default_rng([1, seed]).normal(0, 0.02, items)
    return mean + image + noise


def write_entry(
    ledger: Path,
    model: str,
    saliency: float,
    depth: float | None = None,
    seed: int = 0,
    items: range = range(ITEMS),
    **changes: Any,
) -> Path:
    """An entry of two steps and one layer; the second step has the given means."""
    means = {"saliency": saliency} | ({} if depth is None else {"depth": depth})
    steps = changes.get("steps", (1, 2))
    tables = {
        name: np.array(
            [scores(value - 0.2, seed)[items], scores(value, seed + 50)[items]], np.float32
        )[: len(steps)]
        for name, value in means.items()
    }
    sampler = {
        "name": "LMSDiscreteScheduler",
        "source": "generated",
        "guidance": 3.0,
        "timesteps": (999.0, 0.0),
        "sigmas": (14.0, 0.5),
        "log_snr": (-5.3, 1.4),
    }
    if changes.get("flow"):
        sampler |= {"sigmas": (0.9, 0.5), "log_snr": (-4.3944, 0.0)}
    folder = ledger / model / "abc" / "scenes617" / f"f{seed}"
    folder.mkdir(parents=True)
    write_arrays(folder / "scores.npz", tables)
    write_arrays(folder / "probes.npz", {"none": np.zeros(1)})
    record = EntryRecord(
        schema=SCHEMA,
        tool="0.1.0",
        fingerprint=f"f{seed}",
        model=ModelRecord(name=model, revision="abcdef0123"),
        dataset=DatasetRecord(
            name=changes.get("dataset", "scenes617"),
            training_items=changes.get("training_items", "246 (hash 1)"),
            test_items="60 (hash 2)",
        ),
        labeler=LabelerRecord(name=changes.get("labeler", "tiny"), weights="w"),
        sampler=SamplerRecord(**sampler | {"name": changes.get("sampler", sampler["name"])}),
        machine=MachineRecord(
            engine="onnxruntime",
            precision=changes.get("precision", "fp32"),
            threads=1,
            processor="cpu",
            platform="linux",
            python="3.11",
            gpus=(),
            versions={"torch": "2"},
            commit=None,
        ),
        options={"model": model, "dataset": changes.get("dataset", "scenes617")},
        layers={"mid": "mid_block"},
        steps=steps,
        items=tuple(
            ItemRecord(id=str(item), key=changes.get("key", "k"), scores=digest)
            for item, digest in zip(items, digests(tables), strict=True)
        ),
        tasks={
            name: TaskRecord(
                metric="dice" if name == "saliency" else "rmse",
                higher_is_better=name == "saliency",
                unit="",
                cells=tuple(
                    CellRecord(
                        network="trained",
                        layer="mid",
                        step=step,
                        probe="activations",
                        draw=0,
                        side=8,
                        best=True,
                        threshold=None,
                        mean=mean,
                        low=low,
                        high=high,
                    )
                    for step, (mean, low, high) in zip(steps, summarised(table), strict=True)
                ),
            )
            for name, table in tables.items()
        },
        caveats=(),
        sha256={},
    )
    record = sealed(record, {n: sha256(folder / n) for n in ("scores.npz", "probes.npz")})
    (folder / "entry.json").write_text(record.model_dump_json(by_alias=True), encoding="utf-8")
    return folder
