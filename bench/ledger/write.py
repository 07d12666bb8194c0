"""Write the leaderboard of a ledger: for programs, as Markdown, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.config import FORMATS
from bench.errors import UserError
from bench.ledger.board import Board
from bench.ledger.entries import Entry
from bench.ledger.html import board_page
from bench.ledger.leaderboard import BOARD, PAGE, lines
from datasets.atomic_write import atomic_write

HTML = "leaderboard.html"


def write_board(board: Board, entries: Sequence[Entry], folder: Path) -> tuple[Path, ...]:
    """Write ``leaderboard.json``, ``leaderboard.md`` and ``leaderboard.html`` into a folder.

    Raises UserError when they cannot be written.
    """
    texts = {
        BOARD: board.model_dump_json(indent=1, by_alias=True) + "\n",
        PAGE: "\n".join(lines(board, FORMATS[1])) + "\n",
        HTML: board_page(board, entries),
    }
    paths = tuple(folder / name for name in texts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts.values(), strict=True):
            with atomic_write(path) as partial:
                partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {paths[0]} ({error.strerror}); choose another folder with --out"
        ) from error
    return paths
