"""Effects that a claim asserts, and the verdict on them.

An effect is a mean over test images with its interval, and a least value that the claim asserts.
At a false discovery rate of 5 % over all effects that are tested together,

    an effect is supported     when it differs from its least value and lies above it,
    an effect is contradicted  when it differs from it and lies below it.

A claim holds when all its effects are supported, fails when one is contradicted, and is undecided
otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from probes.bootstrap import Array, Difference, Score, paired_difference
from probes.multiple_testing import RATE, over_permuted, q_values

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect that a claim asserts; signs are such that the claim says it is large."""

    what: str
    """What is compared with what."""
    value: Score
    """Mean over test images, with its 95 % interval."""
    least: float
    """The claim says that the effect is larger."""
    p: float
    """Two-sided p-value of an effect equal to ``least``; nan if undefined."""
    q: float = np.nan
    """The least false discovery rate at which the effect differs from ``least``."""

    @property
    def verdict(self) -> Verdict:
        """The verdict on this effect alone."""
        if not self.q <= RATE or self.value.mean == self.least:
            return "undecided"
        return "holds" if self.value.mean > self.least else "fails"


def paired(what: str, better: Array, worse: Array, least: float = 0.0) -> Effect:
    """Return the effect ``better - worse``, paired over images; both are scores per image."""
    return _effect(what, paired_difference((better - least)[None], worse[None]), least)


def over_networks(what: str, scores: Array, networks: Array, least: float = 0.0) -> Effect:
    """Return the effect of ``scores`` over several networks or draws (networks x images).

    Their variation widens the interval, as in :func:`probes.multiple_testing.over_permuted`.
    """
    if len(networks) == 1:
        return paired(what, scores, networks[0], least)
    return _effect(what, over_permuted((scores - least)[None], networks[None]), least)


def _effect(what: str, difference: Difference, least: float) -> Effect:
    mean, low, high = (
        float(values[0]) + least for values in (difference.mean, difference.low, difference.high)
    )
    return Effect(what, Score(mean, low, high), least, float(difference.p[0]))


def with_rates(families: Sequence[Sequence[Effect]]) -> list[list[Effect]]:
    """Return the effects with their false discovery rates over all families."""
    q = iter(q_values(np.array([effect.p for family in families for effect in family])))
    return [[replace(effect, q=float(next(q))) for effect in family] for family in families]


def verdict_of(effects: Sequence[Effect]) -> Verdict:
    """Return the verdict on a claim with these effects, which were tested together."""
    verdicts = {effect.verdict for effect in effects}
    if "fails" in verdicts:
        return "fails"
    return "holds" if verdicts == {"holds"} else "undecided"
