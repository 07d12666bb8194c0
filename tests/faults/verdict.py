"""What a command did under a fault, and whether that is what we promise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_PROGRESS = re.compile(r"\d+%\||\d\d:\d\d[<,]")
"""A state of a progress bar."""
_LONGEST = 700
"""Letters of a sentence that a person still reads, paths included."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended."""

    code: int
    """Exit code; below zero the signal that ended it."""
    printed: str
    error: str
    """All that it wrote to the error stream."""

    @property
    def said(self) -> list[str]:
        """The lines of the error stream, without progress bars."""
        lines = (line.strip() for line in re.split(r"[\r\n]", self.error))
        return [line for line in lines if line and not _PROGRESS.search(line)]


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault, tried once."""

    given: str
    """What was done."""
    outcome: Outcome
    wrong: str | None
    """In what it was not as promised."""
    seen: str | None = None
    """What the user reads of it, where that is not the outcome's last line."""

    @property
    def sentence(self) -> str | None:
        """What the user sees."""
        return self.seen or (self.outcome.said[-1] if self.outcome.said else None)


@dataclass(frozen=True, slots=True)
class Row:
    """All trials of one kind of fault."""

    fault: str
    trials: tuple[Trial, ...]

    @property
    def failures(self) -> list[Trial]:
        """The trials that did not go as promised."""
        return [trial for trial in self.trials if trial.wrong]

    @property
    def example(self) -> str:
        """The longest sentence that was as promised: it says most."""
        kept = [trial.sentence for trial in self.trials if not trial.wrong and trial.sentence]
        return max(kept, key=len, default="nothing: the work is done again")


def row(fault: str, trials: Iterable[Trial]) -> Row:
    """The trials of a fault, made now."""
    return Row(fault, tuple(trials))


def refused(outcome: Outcome) -> str | None:
    """In what a refusal is not as promised: exit code 2 and one sentence."""
    if "Traceback" in outcome.error:
        return "a traceback"
    if outcome.code != 2:
        return f"exit code {outcome.code} where 2 is promised"
    if len(outcome.said) != 1:
        return f"{len(outcome.said)} lines on the error stream where one is promised"
    (sentence,) = outcome.said
    if (
        not sentence.startswith("bench: ")
        or len(sentence) > _LONGEST
        or not re.search(r"\w \w", sentence)
    ):
        return "what is said is no sentence of ours"
    return None


def done(outcome: Outcome) -> str | None:
    """In what an end is not a quiet success."""
    if outcome.code != 0:
        return f"exit code {outcome.code} where 0 is promised"
    return "an error stream that is not empty" if outcome.said else None


def refused_or(harmless: Callable[[Outcome], str | None], outcome: Outcome) -> str | None:
    """As :func:`refused`; where the command ended well, what ``harmless`` finds wrong with that."""
    return done(outcome) or harmless(outcome) if outcome.code == 0 else refused(outcome)


def first(*reasons: str | None) -> str | None:
    """The first of several complaints."""
    return next((reason for reason in reasons if reason), None)


def listed(rows: Iterable[Row]) -> Iterator[str]:
    """Every failure in words: what was done, how it ended, the end of the error stream."""
    for found in rows:
        for trial in found.failures:
            tail = " | ".join(trial.outcome.said[-6:])[-1500:]
            yield f"{found.fault}: {trial.given}: {trial.wrong} (exit code {trial.outcome.code}; {tail})"
