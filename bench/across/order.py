"""The order in which attributes emerge, by the noise level of their onset.

A model's gain over an attribute's baseline is that of :mod:`bench.analysis.emergence`: the best
layer of the last step against position alone, or against the mean training label where a task is of
whole images. The onset is the log-SNR from which on the share of the final gain stays at 90 % or
more, with the share interpolated linearly between steps. Each draw of the image bootstrap gives an
onset of every attribute, and all attributes share the drawn images, so that differences between
onsets are paired.

An onset is a bound, *at or before*, where the share is that high from the first noise level on at
which every model has a step: below it, onsets of several models could not be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from bench.across.models import Model
from bench.across.shared import Shared
from bench.analysis.emergence import EMERGED, TAILS, gains_along, shares_of
from bench.verdicts.cells import without_activations
from probes.bootstrap import Array, Score, effect_of
from probes.multiple_testing import RATE, q_values

GROUPS: Mapping[str, tuple[str, ...]] = {
    "geometry": ("saliency", "depth", "normals", "metric_depth"),
    "shading": ("light", "shadow"),
    "colour, texture and shape": ("colour", "floor", "wall", "shape"),
}
"""Group of attributes -> its tasks."""


@dataclass(frozen=True, slots=True, eq=False)
class Onset:
    """When one attribute emerges in one model."""

    model: str
    attribute: str
    """A task."""
    layer: str
    over: str
    """The baseline."""
    final: Score
    """The gain at the last step."""
    log_snr: Score | None
    """None where the interval of the final gain does not lie above zero."""
    is_bound: bool
    """Whether it is as early as the first noise level that all models have."""
    drawn: Array
    """One onset per draw of the bootstrap; empty without an onset."""

    def __str__(self) -> str:
        """The onset in words."""
        if self.log_snr is None:
            return "no final gain"
        bound = "at or before " if self.is_bound else ""
        low, high = self.log_snr.low, self.log_snr.high
        return f"{bound}{self.log_snr.mean:.2f} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True, slots=True)
class OnsetDifference:
    """The onset of ``first`` minus that of ``second``: attributes, or groups, in one model."""

    model: str
    first: str
    second: str
    difference: Score
    """In log-SNR: above zero ``first`` emerges later than ``second``."""
    p: float
    q: float
    """The least false discovery rate over all differences of its table."""

    @property
    def has_order(self) -> bool:
        """Whether one comes first, at a false discovery rate of 5 %."""
        return self.q <= RATE and self.difference.mean != 0

    @property
    def finding(self) -> str:
        """Which comes first, or that no order is seen."""
        if not self.has_order:
            return "no order seen"
        before, after = self.second, self.first
        if self.difference.mean < 0:
            before, after = after, before
        return f"{before} before {after}"


def first_level(shared: Shared) -> float:
    """Return the first noise level from which on every model has steps."""
    of_models = (model.results.log_snr or () for model in shared.models)
    return max(min(level for level in levels if np.isfinite(level)) for levels in of_models)


def onset_of(shared: Shared, model: Model, name: str, first: float) -> Onset:
    """Return the onset of an attribute in a model; one before ``first`` is there."""
    task, results = shared.task(model, name), model.results
    layer, _, gains = gains_along(results.steps, task)
    over = next(iter(without_activations(task)))
    final = effect_of(gains[-1])
    nothing = Onset(model.name, name, layer, over, final, None, False, np.empty(0))
    if not final.low > 0:
        return nothing
    levels = np.array(results.log_snr, dtype=np.float64)
    share, shares = shares_of(gains)
    onset, drawn = (
        np.maximum(crossing(values, levels), first) for values in (share[:, None], shares)
    )
    low, high = np.nanquantile(drawn, TAILS)
    return replace(
        nothing,
        log_snr=Score(float(onset[0]), float(low), float(high)),
        is_bound=bool(onset[0] <= first),
        drawn=drawn,
    )


def crossing(shares: Array, levels: Array) -> Array:
    """Return the level from which on each column of shares stays at 90 % or more.

    ``shares`` is steps x columns and ``levels`` has one log-SNR per step. Between steps the share
    is linear in it. A column that is as high at all steps has the first finite level; an undefined
    column has nan.
    """
    finite = levels[np.isfinite(levels)]
    fails = ~(shares >= EMERGED)
    # The index of the last failure, -1 without one.
    last = np.where(fails.any(0), len(fails) - 1 - fails[::-1].argmax(0), -1)
    found = np.full(shares.shape[1], finite[0])
    for column in np.flatnonzero(last >= 0):
        below = int(last[column])
        if below + 1 == len(shares) or np.isnan(shares[:, column]).all():
            found[column] = np.nan
        elif not np.isfinite(levels[below]):
            # Between pure noise and the first finite level nothing can be interpolated.
            found[column] = levels[below + 1]
        else:
            low, high = shares[below : below + 2, column]
            way = (EMERGED - low) / (high - low)
            found[column] = levels[below] + way * (levels[below + 1] - levels[below])
    return found


def onsets(shared: Shared) -> list[Onset]:
    """Return the onset of every attribute in every model."""
    first = first_level(shared)
    return [
        onset_of(shared, model, name, first) for model in shared.models for name in shared.tasks
    ]


def attribute_order(found: Sequence[Onset]) -> list[OnsetDifference]:
    """Return the differences between all attributes with an onset, within each model."""
    return _tested(
        _difference(first.model, first.attribute, second.attribute, [first], [second])
        for of_model in _by_model(found)
        for first, second in combinations(of_model, 2)
    )


def group_order(found: Sequence[Onset]) -> list[OnsetDifference]:
    """Return the same between groups of attributes; a group's onset is the mean of its members'.

    That of a group with a bound is an upper bound: it can be the first one, but not the second.
    """
    return _tested(
        _bounded(
            _difference(of_model[0].model, one, other, members[one], members[other]),
            *(any(onset.is_bound for onset in members[name]) for name in (one, other)),
        )
        for of_model in _by_model(found)
        for members in (_grouped(of_model),)
        for one, other in combinations(members, 2)
    )


def _by_model(found: Sequence[Onset]) -> list[list[Onset]]:
    kept = [onset for onset in found if onset.log_snr is not None]
    names = dict.fromkeys(onset.model for onset in kept)
    return [[onset for onset in kept if onset.model == name] for name in names]


def _grouped(of_model: Sequence[Onset]) -> dict[str, list[Onset]]:
    members = {
        group: [onset for onset in of_model if onset.attribute in tasks]
        for group, tasks in GROUPS.items()
    }
    return {group: onsets for group, onsets in members.items() if onsets}


def _difference(
    model: str, first: str, second: str, one: Sequence[Onset], other: Sequence[Onset]
) -> OnsetDifference:
    mean = _mean(one) - _mean(other)
    drawn = np.mean([x.drawn for x in one], axis=0) - np.mean([x.drawn for x in other], axis=0)
    low, high = np.nanquantile(drawn, TAILS)
    # A draw without an onset speaks for no order.
    undefined = np.isnan(drawn).sum()
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum()) + undefined
    p = min(1.0, 2 * (1 + float(tail)) / (1 + len(drawn)))
    return OnsetDifference(model, first, second, Score(mean, float(low), float(high)), p, np.nan)


def _bounded(row: OnsetDifference, first: bool, second: bool) -> OnsetDifference:
    """A difference where the onset of one group or both may be earlier than it is said to be."""
    above = row.difference.mean > 0
    # Above zero the second one is earlier.
    says_the_other = (first and above) or (second and not above)
    return replace(row, p=1.0) if says_the_other or (first and second) else row


def _mean(found: Sequence[Onset]) -> float:
    return float(np.mean([onset.log_snr.mean for onset in found if onset.log_snr]))


def _tested(rows: Iterator[OnsetDifference]) -> list[OnsetDifference]:
    listed = list(rows)
    q = q_values(np.array([row.p for row in listed]))
    return [replace(row, q=float(value)) for row, value in zip(listed, q, strict=True)]
