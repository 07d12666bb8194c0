"""The table of other people's models and files is sound; ``python -m tests.faults`` tries it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.others.case import Case, Kit, nothing, verdict, words
from tests.faults.others.group import TABLE
from tests.faults.others.runs import other_runs
from tests.faults.verdict import Outcome

CASES = [case for cases in TABLE.values() for case in cases]


def test_every_case_has_a_name_and_a_command_of_its_own(tmp_path: Path) -> None:
    names = [case.name for case in CASES]
    commands = {(case.name, case.command) for case in CASES}
    assert len(commands) == len(names) >= 60
    kit = Kit(tmp_path, {name: tmp_path / name for name in other_runs(tmp_path, tmp_path)})
    for case in CASES:
        line = words(case, kit, tmp_path / "a b")
        assert len(line) >= len(case.command.split())
        assert "{folder}" not in " ".join(line)


@pytest.mark.parametrize(
    ("code", "outcome", "wrong"),
    [
        (2, Outcome(2, "", "bench: the width is 32; change it\n"), None),
        (2, Outcome(2, "", "bench: the width is 24; change it\n"), "it does not say '32'"),
        (2, Outcome(0, "32", ""), "exit code 0"),
        (2, Outcome(2, "", "Traceback (most recent call last):\n32\n"), "a traceback"),
        (0, Outcome(0, "32", ""), None),
        (0, Outcome(0, "24", "note: 32 words\n"), None),
        (0, Outcome(0, "24", ""), "it does not say '32'"),
        (0, Outcome(-9, "", "killed after 60 s"), "exit code -9"),
    ],
)
def test_a_case_wants_its_exit_code_and_its_words(
    code: int, outcome: Outcome, wrong: str | None
) -> None:
    found = verdict(Case("case", nothing, "list", "32", code), outcome)
    assert found == wrong if wrong is None else (found or "").startswith(wrong)
