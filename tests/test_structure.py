"""Structure of the packages: directions of imports, no cycles, and short files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.imports import PACKAGES, ROOT, imported, parsed, sources

ARROW = {
    "bench": {"bench", "extract", "probes", "engines", "datasets"},
    "extract": {"extract", "engines", "datasets"},
    "probes": {"probes", "datasets"},
    "engines": {"engines"},
    "datasets": {"datasets"},
}
LONGEST = 300


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrow(package: str) -> None:
    for path in sources():
        if path.relative_to(ROOT).parts[0] == package:
            packages = {name.partition(".")[0] for name in imported(parsed(path))} & set(PACKAGES)
            assert packages <= ARROW[package], (
                f"{path.relative_to(ROOT)} imports {sorted(packages - ARROW[package])}"
            )


def cycles_in(folder: Path) -> list[str]:
    """Modules in or behind an import cycle; none if the imports have an order."""
    paths = {
        ".".join(path.relative_to(folder).with_suffix("").parts): path for path in sources(folder)
    }
    needs = {name: set(imported(parsed(path))) & paths.keys() for name, path in paths.items()}
    while ready := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in ready:
            del needs[name]
    return sorted(needs)


def test_imports_have_no_cycle(tree: Path) -> None:
    assert cycles_in(ROOT) == []
    with (tree / "engines" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef late() -> None:\n    from engines.load import load\n")
    assert {"engines.errors", "engines.load"} <= set(cycles_in(tree))


def test_every_package_is_seen() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in sources()} == set(PACKAGES)
    assert len(sources()) > 60


def test_no_file_is_too_long() -> None:
    for path in (*sources(), *(ROOT / "tests").rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST, f"{path.relative_to(ROOT)} has {lines} lines"
