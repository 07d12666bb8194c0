"""The entries in the repository: they fit themselves, and the leaderboard beside them is theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.ledger.board import Board
from bench.ledger.entries import disagreements, read_entry, read_ledger
from bench.ledger.leaderboard import BOARD, PAGE, leaderboard, lines
from bench.ledger.verify import verify

LEDGER = Path(__file__).parents[3] / "ledger"
MOST_BYTES_PER_TASK = 210_000
ENTRIES = sorted(path.parent for path in LEDGER.rglob("entry.json"))
every_entry = pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.parts[-4])


@every_entry
def test_an_entry_agrees_with_itself_and_is_small(path: Path) -> None:
    entry = read_entry(path)
    assert disagreements(entry) == ([], [])
    record = entry.record
    size = sum(file.stat().st_size for file in path.iterdir())
    assert size < MOST_BYTES_PER_TASK * len(record.tasks)
    assert path.parts[-4:] == (
        record.model.name,
        record.model.revision[:12],
        record.dataset.name,
        record.fingerprint,
    )


def test_the_leaderboard_beside_them_is_theirs() -> None:
    board = leaderboard(read_ledger(LEDGER))
    stored = Board.model_validate_json((LEDGER / BOARD).read_bytes())
    assert stored == board
    page = (LEDGER / PAGE).read_text(encoding="utf-8")
    assert page == "\n".join(lines(board, "github")) + "\n"


@pytest.mark.slow
@every_entry
def test_an_entry_is_confirmed(path: Path) -> None:
    assert verify(read_entry(path), 8, {}).passed
