"""The page of a ledger: what it says of entries that differ, are tied or cannot be compared."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.ledger.entries import read_ledger
from bench.ledger.html import board_page, curve_names, family_of, objective_of, opening
from bench.ledger.leaderboard import leaderboard
from tests.bench.ledger.synthetic import write_entry

SHIPPED = Path(__file__).parents[3] / "ledger"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two models that are alike, one that is better, and one that is kept apart."""
    write_entry(tmp_path, "alike", 0.6, 0.5, seed=1)
    write_entry(tmp_path, "best", 0.7, 0.4, seed=2)
    write_entry(tmp_path, "other", 0.6, 0.5, seed=3)
    write_entry(tmp_path, "flow", 0.8, 0.3, seed=4, sampler="DPMSolver", flow=True)
    return tmp_path


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


class Rows(HTMLParser):
    """The text of every row of the tables of models."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, str] = {}
        self._entry = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._entry = dict(attrs).get("data-entry") or ""

    def handle_data(self, data: str) -> None:
        if self._entry:
            self.rows[self._entry] = self.rows.get(self._entry, "") + data


def test_the_command_writes_it_beside_the_other_files(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", str(ledger)]) == 0
    page = ledger / "leaderboard.html"
    assert str(page) in capsys.readouterr().out
    assert 10_000 < page.stat().st_size < 2_000_000


def test_a_row_has_scores_letters_and_the_command_that_checks_it(ledger: Path) -> None:
    entries = read_ledger(ledger)
    board = leaderboard(entries)
    rows = Rows(board_page(board, entries)).rows
    assert set(rows) == {entry.name for entry in entries}
    for group in board.groups:
        for entry in group.entries:
            text = " ".join(rows[entry.entry].split())
            for task in entry.tasks.values():
                assert f"{task.score.mean:.3f} [{task.score.low:.3f}" in text
                assert f"] {task.letters}{task.score.layer}" in text
            assert f"python -m bench verify {ledger / entry.entry}" in text


def test_the_sentences_name_leaders_ties_and_pairs(ledger: Path) -> None:
    entries = read_ledger(ledger)
    first, second, third = opening(leaderboard(entries))
    assert first.startswith("4 entries have scores in 2 tasks (saliency, depth); 1 group is kept")
    assert second.startswith("At the last step (table 1 of 2), best (abcdef) 0.")
    assert second.count("leads for") == 2
    assert third.startswith("4 of 6 pairs of comparable entries differ")


def test_the_sentences_say_when_nothing_differs(tmp_path: Path) -> None:
    write_entry(tmp_path, "alike", 0.6, seed=1)
    write_entry(tmp_path, "other", 0.6, seed=3)
    _, second, third = opening(leaderboard(read_ledger(tmp_path)))
    assert "no entry stands out for saliency" in second
    assert third.startswith("0 of 1 pair of comparable entries differ")


def test_the_sentences_of_a_single_entry_compare_nothing(tmp_path: Path) -> None:
    write_entry(tmp_path, "alone", 0.6, seed=1)
    first, second, third = opening(leaderboard(read_ledger(tmp_path)))
    assert first == "1 entry has scores in 1 task (saliency); all can be compared."
    assert "is the only comparable entry for saliency" in second
    assert third.startswith("No two entries can be compared")


def test_every_step_has_its_own_letters(ledger: Path) -> None:
    entries = read_ledger(ledger)
    data = data_of(board_page(leaderboard(entries), entries))
    for step in (1, 2):
        board = leaderboard(entries, step=step)
        for group in board.groups:
            for entry in group.entries:
                score, letters, layer = data["entries"][entry.entry]["scores"]["depth"][str(step)]
                assert letters == entry.tasks["depth"].letters
                assert score.startswith(f"{entry.tasks['depth'].score.mean:.3f} [")
                assert layer == "mid"


def test_curves_lie_at_the_noise_of_each_entrys_own_steps(ledger: Path) -> None:
    entries = read_ledger(ledger)
    data = data_of(board_page(leaderboard(entries), entries))
    (rows,) = data["charts"]["saliency"]["log_snr"]["datasets"].values()
    assert {row["log_snr"] for row in rows} == {-5.3, 1.4, -4.3944, 0.0}
    assert {row["curve"] for row in rows} == {
        f"{name} (abcdef)" for name in ("alike", "best", "other", "flow")
    }


def test_entries_of_one_model_have_curves_of_their_own(tmp_path: Path) -> None:
    write_entry(tmp_path / "x", "same", 0.6, seed=1)
    write_entry(tmp_path / "y", "same", 0.7, seed=2, precision="bf16")
    names = curve_names(leaderboard(read_ledger(tmp_path)))
    assert sorted(names.values()) == ["same (abcdef)", "same (abcdef), entry 2"]


def test_a_models_name_cannot_act(tmp_path: Path) -> None:
    write_entry(tmp_path, "plain", 0.6, seed=1)
    entries = read_ledger(tmp_path)
    hostile = "<img src=x onerror=alert(1)>"
    board = leaderboard(entries)
    group = board.groups[0]
    entry = group.entries[0].model_copy(update={"model": hostile})
    board = board.model_copy(update={"groups": (group.model_copy(update={"entries": (entry,)}),)})
    page = board_page(board, entries)
    assert hostile not in page
    assert "&lt;img src=x" in page


def test_families_and_objectives_are_read_from_layers_and_samplers() -> None:
    assert family_of({"down0": "down_blocks.0.attentions.0.attn1.to_out.0"}) == "UNet"
    joint = {"block0": "transformer_blocks.0.attn.to_out.0"}
    assert family_of(joint) == "transformer, joint attention"
    crossed = {"block0": "transformer_blocks.0.attn1.to_out.0"}
    assert family_of(crossed) == "transformer, cross-attention"


def test_the_objective_is_read_from_the_noise_and_not_from_the_samplers_name(ledger: Path) -> None:
    entries = {entry.record.model.name: entry.record.sampler for entry in read_ledger(ledger)}
    assert objective_of(entries["flow"]) == "rectified flow"
    assert objective_of(entries["best"]) == "diffusion"
    shipped = {
        entry.record.model.name: objective_of(entry.record.sampler)
        for entry in read_ledger(SHIPPED)
    }
    assert shipped["tiny"] == "diffusion"
    for name, objective in shipped.items():
        assert ("flow" in name) == (objective == "rectified flow"), name
