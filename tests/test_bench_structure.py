"""Structure of ``bench``: which rooms import which."""

from __future__ import annotations

from pathlib import Path

from tests.imports import ROOT, imported, parsed

ROOMS = {
    "errors": set(),
    "options": {"errors"},
    "measure": set(),
    "steps": set(),
    "config": {"errors", "options", "steps"},
    "command_line": {"config"},
    "figures": {"errors"},
    "environment": {"config", "options"},
    "registry": {"config", "errors"},
    "model": {"config", "errors", "options", "registry"},
    "labeling": {"command_line", "config", "errors", "options", "registry"},
    "study": {
        "config",
        "environment",
        "errors",
        "labeling",
        "model",
        "registry",
    },
    "networks": {"errors", "study"},
    "runs": {
        "config",
        "environment",
        "errors",
        "figures",
        "measure",
        "networks",
        "steps",
        "study",
        "options",
    },
    "stages": {"measure", "runs", "study"},
    "run": {"config", "measure", "networks", "runs", "stages", "study"},
    "analysis": {"errors", "runs", "steps"},
    "calibration": {"errors", "networks", "runs", "study"},
    "curation": {
        "config",
        "environment",
        "errors",
        "figures",
        "labeling",
        "model",
        "options",
        "registry",
        "runs",
        "study",
    },
    "profiling": {
        "config",
        "environment",
        "errors",
        "labeling",
        "measure",
        "model",
        "networks",
        "options",
        "registry",
        "runs",
        "steps",
        "study",
    },
    "planning": {
        "config",
        "errors",
        "measure",
        "networks",
        "profiling",
        "runs",
        "stages",
        "study",
    },
    "machine": {
        "config",
        "environment",
        "errors",
        "measure",
        "model",
        "options",
        "planning",
        "profiling",
        "registry",
        "run",
        "runs",
        "study",
    },
    "regression": {"config", "errors", "options", "profiling", "runs", "steps"},
    "adam_vs_ridge": {
        "errors",
        "measure",
        "profiling",
        "runs",
        "steps",
        "study",
        "options",
    },
    "interventions": {
        "adam_vs_ridge",
        "analysis",
        "config",
        "errors",
        "figures",
        "registry",
        "runs",
        "steps",
        "study",
        "options",
    },
    "report": {
        "adam_vs_ridge",
        "analysis",
        "command_line",
        "config",
        "errors",
        "figures",
        "interventions",
        "registry",
        "runs",
        "steps",
        "options",
    },
    "ledger": {
        "config",
        "environment",
        "errors",
        "figures",
        "model",
        "networks",
        "report",
        "runs",
        "steps",
        "study",
        "options",
    },
    "verdicts": {
        "config",
        "errors",
        "interventions",
        "model",
        "options",
        "registry",
        "run",
        "runs",
        "steps",
    },
    "across": {
        "analysis",
        "errors",
        "figures",
        "model",
        "networks",
        "options",
        "registry",
        "runs",
        "steps",
        "verdicts",
    },
    "claims": {"across", "errors", "runs", "verdicts"},
    "commands": {
        "across",
        "adam_vs_ridge",
        "calibration",
        "command_line",
        "config",
        "curation",
        "environment",
        "errors",
        "interventions",
        "labeling",
        "model",
        "options",
        "ledger",
        "machine",
        "planning",
        "profiling",
        "registry",
        "regression",
        "report",
        "run",
        "runs",
        "steps",
        "study",
        "verdicts",
    },
    "__main__": {"commands", "config", "environment", "errors"},
}
"""Room (a module or folder of ``bench``) -> rooms that it imports, from the bottom to the top."""
MOST_AT_THE_TOP = 16


def rooms_in(folder: Path) -> dict[str, set[str]]:
    """Room -> the other rooms that it imports."""
    rooms: dict[str, set[str]] = {}
    for path in sorted((folder / "bench").rglob("*.py")):
        room = path.relative_to(folder / "bench").parts[0].removesuffix(".py")
        names = {name.split(".")[1] for name in imported(parsed(path)) if name.startswith("bench.")}
        rooms[room] = rooms.get(room, set()) | (names - {room})
    return {room: others for room, others in rooms.items() if room != "__init__"}


def test_the_imports_of_every_room_match_the_table() -> None:
    assert rooms_in(ROOT) == ROOMS


def test_no_room_imports_one_above_it() -> None:
    below: set[str] = set()
    for room, imports in ROOMS.items():
        assert imports <= below, f"{room} imports {sorted(imports - below)}"
        below.add(room)


def test_an_import_of_a_room_above_is_detected(tree: Path) -> None:
    assert rooms_in(tree) == ROOMS
    with (tree / "bench" / "runs" / "folder.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef late() -> None:\n    import bench.report.html\n")
    assert rooms_in(tree)["runs"] - ROOMS["runs"] == {"report"}


def test_the_top_of_bench_has_few_modules() -> None:
    assert len(list((ROOT / "bench").glob("*.py"))) <= MOST_AT_THE_TOP
