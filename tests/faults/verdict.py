"""Outcomes of commands under faults, and checks of what is promised."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_PROGRESS = re.compile(r"\d+%\||\d\d:\d\d[<,]")
"""A line of a progress bar."""
_LONGEST = 700
"""Longest acceptable message in characters, paths included."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended."""

    code: int
    """Exit code; a negative one is a signal."""
    printed: str
    error: str
    """The error stream."""

    @property
    def said(self) -> list[str]:
        """The lines of the error stream, without progress bars and notes on the prompts."""
        lines = (line.strip() for line in re.split(r"[\r\n]", self.error))
        remarks = (line for line in lines if line and not line.startswith("note: "))
        return [line for line in remarks if not _PROGRESS.search(line)]


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a fault."""

    name: str
    """Description of the fault."""
    outcome: Outcome
    wrong: str | None
    """What was not as promised; None if all was."""
    message: str | None = None
    """The message to the user, if that is not the last line of the error stream."""

    @property
    def sentence(self) -> str | None:
        """The message to the user."""
        return self.message or (self.outcome.said[-1] if self.outcome.said else None)


@dataclass(frozen=True, slots=True)
class Row:
    """All trials of one kind of fault."""

    fault: str
    trials: tuple[Trial, ...]

    @property
    def failures(self) -> list[Trial]:
        """The trials that were not as promised."""
        return [trial for trial in self.trials if trial.wrong]

    @property
    def example(self) -> str:
        """The longest message of a trial that was as promised."""
        messages = [trial.sentence for trial in self.trials if not trial.wrong and trial.sentence]
        return max(messages, key=len, default="nothing: the work is done again")


def row(fault: str, trials: Iterable[Trial]) -> Row:
    """Make all trials of a fault."""
    return Row(fault, tuple(trials))


def refused(outcome: Outcome) -> str | None:
    """What is wrong with a refusal: exit code 2 and one sentence are promised."""
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
        return "the message is no sentence of the bench"
    return None


def done(outcome: Outcome) -> str | None:
    """What is wrong with a success: exit code 0 and an empty error stream are promised."""
    if outcome.code != 0:
        return f"exit code {outcome.code} where 0 is promised"
    return "an error stream that is not empty" if outcome.said else None


def refused_or(harmless: Callable[[Outcome], str | None], outcome: Outcome) -> str | None:
    """As :func:`refused`; for a success, the result of ``harmless``."""
    return done(outcome) or harmless(outcome) if outcome.code == 0 else refused(outcome)


def first(*reasons: str | None) -> str | None:
    """The first reason that is not None."""
    return next((reason for reason in reasons if reason), None)


def listed(rows: Iterable[Row]) -> Iterator[str]:
    """Describe every failure: the trial, its exit code and the end of the error stream."""
    for row in rows:
        for trial in row.failures:
            tail = " | ".join(trial.outcome.said[-6:])[-1500:]
            end = f"exit code {trial.outcome.code}; {tail}"
            yield f"{row.fault}: {trial.name}: {trial.wrong} ({end})"
