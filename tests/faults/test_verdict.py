"""The checks of outcomes detect every outcome that is not as promised."""

from __future__ import annotations

import pytest

from tests.faults.verdict import Outcome, Row, Trial, done, listed, refused, refused_or

BAR = (
    "generating:   0%|          | 0/24 [00:00<?, ?item/s]\r"
    "generating: 100%|####| 24/24 [00:03<00:00,  7.19item/s]\n"
)
SENTENCE = "bench: cannot write /x (No space left on device); free space and run again\n"


def test_a_sentence_after_a_progress_bar_is_as_promised() -> None:
    outcome = Outcome(2, "", BAR + SENTENCE)
    assert refused(outcome) is None
    assert outcome.said == [SENTENCE.strip()]
    assert refused_or(lambda _: "wrong", outcome) is None


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(1, "", SENTENCE),
        Outcome(0, "", SENTENCE),
        Outcome(-11, "", ""),
        Outcome(2, "", ""),
        Outcome(2, "", SENTENCE + "another line\n"),
        Outcome(2, "", "no sentence of the bench\n"),
        Outcome(2, "", "bench: KeyError\n"),
        Outcome(2, "", "bench: " + "x y " * 500),
        Outcome(2, "", "Traceback (most recent call last):\n" + SENTENCE),
    ],
    ids=str,
)
def test_everything_else_is_not(outcome: Outcome) -> None:
    assert refused(outcome)
    assert "input" in next(listed([Row("fault", (Trial("input", outcome, refused(outcome)),))]))


def test_a_good_end_is_quiet_and_harmless() -> None:
    assert done(Outcome(0, "a table", BAR)) is None
    assert done(Outcome(0, "", BAR + "a warning\n"))
    assert refused_or(lambda _: None, Outcome(0, "", "")) is None
    assert refused_or(lambda _: "other scores", Outcome(0, "", "")) == "other scores"
