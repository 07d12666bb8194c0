"""A claim: a paper's sentence, the run that it needs, and the test of it.

Every file of ``bench/claims`` defines one as ``CLAIM``. This module imports nothing heavy, so that
claims are listed quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.verdicts.effect import Effect

LEAST = 0.01
"""The least difference that counts as more or better, in the unit of a task's headline metric.

It is the tolerance of ``compare --fail-on`` in the documents, chosen before any claim was tested.
"""

Kind = Literal["run", "runs", "interventions"]
"""What a claim is tested on: one run, several runs of different models, or one run's edits."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a paper."""

    source: str
    """The paper's arXiv id, or where else the sentence stands."""
    sentence: str
    """What the paper says, in our words."""
    test: Callable[[Sequence[Results]], Iterable[Effect]]
    """The effects that the claim asserts, from finished runs; its docstring says which and why.

    Raises LacksError when the runs do not hold what it needs. Of kinds other than ``runs``, one run
    is given.
    """
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of the run that it needs, where they are not the defaults."""
    kind: Kind = "run"
    read_in_full: bool = False
    """Whether the paper was read in full; if not, its statement is that of its abstract or of a
    summary."""


class LacksError(Exception):
    """Runs lack what a claim needs; the message ends the sentence "undecided: needs ..."."""
