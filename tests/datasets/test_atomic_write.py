"""Atomic writing of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.atomic_write import atomic_write


def test_a_file_is_there_when_all_of_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    with atomic_write(file) as partial:
        partial.write_text("new", encoding="utf-8")
        assert not file.exists()
    assert file.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("old", encoding="utf-8")

    def broken() -> None:
        with atomic_write(file) as partial:
            partial.write_text("ne", encoding="utf-8")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        broken()
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_simultaneous_writers_do_not_collide(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    with atomic_write(file) as first, atomic_write(file) as second:
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert file.read_text(encoding="utf-8") == "first"
