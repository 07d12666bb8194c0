"""Run folders of other versions or conditions, later commands on small runs, edges of options."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.disk import EDIT
from tests.faults.others.case import Case, Kit, Make, edit, nothing
from tests.faults.others.prompts import MANY

BASE = "RUN --labeler tiny --model {base}"
COPY = "{folder}/r"


def changed(name: str, change: Callable[[Path], Any]) -> Make:
    """A copy of the finished run with one file changed, named ``r``."""

    def make(kit: Kit, folder: Path) -> None:
        change(Path(shutil.copytree(kit.runs["run"], folder / "r")) / name)

    return make


def keys(name: str, **changes: Any) -> Make:
    """A copy with other keys in a JSON file."""
    return changed(name, lambda path: edit(path, **changes))


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _options(**changes: Any) -> Make:
    """A copy whose config.json holds other options."""

    def change(path: Path) -> None:
        stored = json.loads(path.read_text())
        stored["options"] |= changes
        path.write_text(json.dumps(stored))

    return changed("config.json", change)


def _file(kit: Kit, folder: Path) -> None:
    (folder / "f").write_text("x")


def _toml(text: str) -> Make:
    return lambda kit, folder: (folder / "o.toml").write_text(text)


EDITS = " ".join(EDIT)

RUNS: tuple[Case, ...] = (
    # Runs that are not comparable.
    Case("another labeler", nothing, "compare {run} {brightness}", "the labelers differ"),
    Case(
        "another labeler, side by side",
        nothing,
        "leaderboard {run} {brightness}",
        "not comparable in labeler",
        0,
    ),
    Case("another split", nothing, "compare {run} {split}", "test items"),
    Case("another sampler", nothing, "leaderboard {run} {steps}", "sampler_steps", 0),
    Case("another guidance", nothing, "leaderboard {run} {guided}", "guidance", 0),
    Case(
        "a folder of images",
        lambda kit, folder: (folder / "r").mkdir(),
        f"leaderboard {COPY}",
        "is no run folder",
    ),
    Case("the same run twice", nothing, "compare {run} {run}", "x 1.000", 0),
    # Folders of other versions, or damaged.
    Case("a later version", keys("run.json", schema=99), f"leaderboard {COPY}", "schema 99"),
    Case("an earlier version", keys("run.json", schema=1), f"report {COPY}", "schema 1"),
    Case("an option of another version", _options(colour="red"), f"leaderboard {COPY}", "colour"),
    Case(
        "an option that lacks its bounds",
        _options(sampler_steps=10**29),
        f"report {COPY}",
        "sampler_steps",
    ),
    Case("a truncated table", changed("cells.csv", _half), f"leaderboard {COPY}", "cells.csv"),
    Case(
        "truncated scores",
        changed("scores.safetensors", _half),
        f"compare {{run}} {COPY}",
        "scores.safetensors",
    ),
    Case(
        "no probes",
        changed("probes.safetensors", Path.unlink),
        f"intervene {COPY} {EDITS}",
        "probes.safetensors",
    ),
    Case("an unfinished run", changed("run.json", Path.unlink), f"report {COPY}", "unfinished"),
    Case(
        "nothing but brackets",
        changed("run.json", lambda p: p.write_bytes(b"[" * 200_000)),
        f"leaderboard {COPY}",
        "damaged",
    ),
    Case(
        "a model that is gone",
        _options(model="/nowhere/model"),
        f"intervene {COPY} {EDITS}",
        "/nowhere/model",
    ),
    # Later commands on a run of few items.
    Case(
        "interventions on a run of few items",
        lambda kit, folder: shutil.copytree(kit.runs["run"], folder / "r"),
        f"intervene {COPY} {EDITS}",
        "saliency: edits of mid",
        0,
    ),
    Case(
        "a report of a run of few items",
        lambda kit, folder: shutil.copytree(kit.runs["run"], folder / "r"),
        f"report {COPY}",
        "report.html",
        0,
    ),
    Case(
        "calibration on a run of few items",
        nothing,
        "calibration --run {run} --cells 20",
        "permuted",
    ),
    # Folders that cannot be written.
    Case("a file as the folder", _file, "RUN --out {folder}/f", "f"),
    Case("below a file", _file, "RUN --out {folder}/f/run", "cannot"),
    Case("a device", nothing, "RUN --out /dev/full", "/dev/full"),
    Case("a read-only file system", nothing, "RUN --out /proc/run", "/proc/run"),
    Case("a name of 260 characters", nothing, "RUN --out {folder}/" + "n" * 260, "name"),
    Case("a model of 260 characters", nothing, "run --model " + "n" * 260, "as a path"),
    Case("a run folder of 260 characters", nothing, "report " + "n" * 260, "as a path"),
    Case("images into a file", _file, "dataset make --limit 4 --threads 1 --out {folder}/f", "f"),
    Case("a graph into a file", _file, "export --model {base} --graphs {folder}/f", "f"),
    # Options at their edges.
    Case("no guidance", nothing, f"{BASE} --guidance 1", "full tables", 0),
    Case("guidance of nothing", nothing, f"{BASE} --guidance 0", "full tables", 0),
    Case("one item", nothing, f"{BASE} --limit 1", "limit"),
    Case("no step", nothing, f"{BASE} --sampler-steps 0", "sampler_steps"),
    Case("more steps than there are", nothing, f"{BASE} --sampler-steps 1001", "sampler_steps"),
    Case("a step beyond the sampler's", nothing, f"{BASE} --steps 2", "steps"),
    Case("batches of nothing", nothing, f"{BASE} --batch 0", "batch"),
    Case("10^29 threads", nothing, f"{BASE} --threads {10**29}", "threads"),
    Case("a layer of another model", nothing, f"{BASE} --layers up3", "up3"),
    Case("a baseline twice", nothing, f"{BASE} --baselines text,text", "full tables", 0),
    Case(
        "options in another encoding",
        lambda kit, folder: (folder / "o.toml").write_bytes("limit = 12\n".encode("utf-16")),
        "run --config {folder}/o.toml --out {out}",
        "o.toml",
    ),
    Case(
        "a table for an option",
        _toml("[limit]\nitems = 12\n"),
        "run --config {folder}/o.toml --out {out}",
        "limit",
    ),
)


def other_runs(base: Path, folder: Path) -> dict[str, list[str]]:
    """Name -> the options that set a run apart from the others."""
    prompts = folder / "other-prompts.csv"
    prompts.write_text(MANY)
    model = ["--model", str(base)]
    return {
        "run": [*model, "--labeler", "tiny"],
        "brightness": [*model, "--labeler", "brightness"],
        "split": [*model, "--labeler", "tiny", "--dataset", str(prompts)],
        "steps": [*model, "--labeler", "tiny", "--sampler-steps", "2"],
        "guided": [*model, "--labeler", "tiny", "--guidance", "5"],
    }
