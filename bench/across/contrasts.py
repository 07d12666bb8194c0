"""Scores by noise level, and differences between models that are matched in all but one thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np

from bench.across.models import ARCHITECTURE, CONFIGURATION, OBJECTIVE, Model, unlike
from bench.across.seeds import NO_SPREAD, GroupDifference, group_difference, spread_of
from bench.across.shared import Shared
from bench.analysis.noise_levels import BestLayers, best_layers
from bench.errors import UserError
from extract.networks import TRAINED
from extract.taps import depth_of
from probes.bootstrap import Array, Score, score_of
from probes.multiple_testing import RATE, q_values
from probes.probe_set import ACTIVATIONS, WITH_POSITION

LEVELS = (-4.0, -2.0, 0.0, 2.0, 4.0)
"""Log-SNR at which models are compared unless others are named."""
SEED, TRAINING = "seed", "training"
OF_NETWORKS = (SEED, TRAINING)
"""Contrasts of two networks themselves, to which no spread over seeds is added."""
MATCHED = (ARCHITECTURE, OBJECTIVE, CONFIGURATION, SEED, TRAINING)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read by which kind of probe."""

    task: str
    probe: str

    def __str__(self) -> str:
        """The task, and whether the probe knows the position."""
        return f"{self.task} with position" if self.probe == WITH_POSITION else self.task


@dataclass(frozen=True, slots=True)
class Point:
    """A model's score at one noise level."""

    model: str
    reading: Reading
    log_snr: float
    score: Score
    layers: str
    """The best layer or layers, between whose steps the level lies."""
    position: float
    """Relative position of the best layer in the order of computation, 0 to 1; the mean of two."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two groups of networks that differ in one thing."""

    what: str
    first: tuple[Model, ...]
    second: tuple[Model, ...]

    @property
    def words(self) -> str:
        """What is subtracted from what, and where a group is a single network."""
        if self.what == SEED:
            return f"{self.first[0].name} minus {self.second[0].name}"
        return f"{_group_words(self.first)} minus {_group_words(self.second)}"


@dataclass(frozen=True, slots=True)
class ContrastAtLevel:
    """A contrast at one noise level."""

    contrast: Contrast
    reading: Reading
    log_snr: float
    difference: GroupDifference
    """Signed so that above zero the first group scores better."""
    q: float

    @property
    def is_significant(self) -> bool:
        """Whether the groups differ at a false discovery rate of 5 %, over all differences."""
        return self.q <= RATE


def readings_of(shared: Shared) -> list[Reading]:
    """Return the kinds of probes that every run has for each task."""
    return [
        Reading(task, probe)
        for task in shared.tasks
        for probe in (ACTIVATIONS, WITH_POSITION)
        if all(
            shared.task(model, task).where(network=TRAINED, probe=probe) for model in shared.models
        )
    ]


def levels_in_range(shared: Shared, levels: Sequence[float] | None) -> tuple[float, ...]:
    """Return the noise levels that lie within the steps of every run. Raises UserError if none."""
    finite = [[x for x in model.results.log_snr or () if np.isfinite(x)] for model in shared.models]
    low, high = max(min(known) for known in finite), min(max(known) for known in finite)
    outside = [level for level in levels or () if not low <= level <= high]
    kept = tuple(sorted({level for level in levels or LEVELS if low <= level <= high}))
    if outside or not kept:
        named = ", ".join(f"{level:g}" for level in outside or LEVELS)
        if low > high:
            raise UserError(
                "the runs have no noise level in common: the steps of one lie above log-SNR "
                f"{low:.2f} and those of another below {high:.2f}; run the models with more --steps"
            )
        raise UserError(
            f"not every run has steps on both sides of log-SNR {named}; "
            f"choose --log-snr from {low:.2f} to {high:.2f}"
        )
    return kept


@lru_cache(maxsize=256)
def best_of(shared: Shared, model: Model, reading: Reading) -> BestLayers:
    """Return a model's best layers along the steps, with scores of the shared items."""
    found = best_layers(model.results, shared.task(model, reading.task), probe=reading.probe)
    if found is None:
        raise UserError(f"{model.results.path} has steps without probes of {reading}; run it again")
    return found


def points(shared: Shared, levels: Sequence[float]) -> Iterator[Point]:
    """Yield every model's score at every noise level."""
    for reading in readings_of(shared):
        for model in shared.models:
            best = best_of(shared, model, reading)
            for level, scores in zip(levels, best.at(levels).T, strict=True):
                layers = best.layers_at(level)
                position = [depth_of(model.results.layers, name) for name in layers]
                score, named = score_of(scores), ", ".join(layers)
                yield Point(model.name, reading, level, score, named, float(np.mean(position)))


def groups_of(models: Sequence[Model]) -> list[tuple[Model, ...]]:
    """Return the models in groups that differ by their seed alone; often a group is one network.

    A second run of one seed is no further network: it stands alone.
    """
    groups: dict[tuple[object, Path | None], list[Model]] = {}
    seen: set[tuple[object, int | None]] = set()
    for model in models:
        seed = (model.kind, model.seed)
        # Of an unknown training nothing tells which other network it is a repetition of.
        alone = model.results.path if model.seed is None or seed in seen else None
        seen.add(seed)
        groups.setdefault((model.kind, alone), []).append(model)
    return [tuple(group) for group in groups.values()]


def contrasts_of(models: Sequence[Model]) -> list[Contrast]:
    """Return the pairs of groups after as much training, of seeds, and of stages of one training.

    Pairs that differ in one thing alone come first. Stages of one training are compared network by
    network, since they share their seed.
    """
    groups, found = groups_of(models), []
    for first, second in combinations(groups, 2):
        if first[0].training_images == second[0].training_images:
            found.append(Contrast(_unlike(first[0], second[0]), first, second))
    for group in groups:
        found += [Contrast(SEED, (a,), (b,)) for a, b in combinations(group, 2)]
    for one, other in combinations(models, 2):
        stages = one.design == other.design and one.kind != other.kind
        if stages and one.seed is not None and one.seed == other.seed:
            longer, shorter = sorted((one, other), key=lambda m: -(m.training_images or 0))
            found.append(Contrast(TRAINING, (longer,), (shorter,)))
    return sorted(found, key=lambda contrast: contrast.what not in MATCHED)


def _unlike(one: Model, other: Model) -> str:
    """Return in what two models differ; of an unknown training nothing more can be said."""
    if one.training_images is None:
        return "model"
    return " and ".join(unlike(one, other, (ARCHITECTURE, OBJECTIVE)))


def differences(shared: Shared, levels: Sequence[float]) -> list[ContrastAtLevel]:
    """Return every contrast in every reading at every noise level, tested together."""
    groups, contrasts = groups_of(shared.models), contrasts_of(shared.models)
    rows = []
    for reading in readings_of(shared):
        scores = {
            model: shared.signed(reading.task, best_of(shared, model, reading).at(levels).T)
            for model in shared.models
        }
        for column, level in enumerate(levels):
            at = {model: table[column] for model, table in scores.items()}
            spread = spread_of([_stack(at, group) for group in groups])
            rows += [
                ContrastAtLevel(
                    contrast,
                    reading,
                    level,
                    group_difference(
                        _stack(at, contrast.first),
                        _stack(at, contrast.second),
                        NO_SPREAD if contrast.what in OF_NETWORKS else spread,
                    ),
                    float("nan"),
                )
                for contrast in contrasts
            ]
    q = q_values(np.array([row.difference.p for row in rows]))
    return [replace(row, q=float(value)) for row, value in zip(rows, q, strict=True)]


def _stack(scores: dict[Model, Array], group: Sequence[Model]) -> Array:
    return np.array([scores[model] for model in group])


def _group_words(group: Sequence[Model]) -> str:
    names = " and ".join(model.name for model in group)
    return names if len(group) > 1 else f"{names} (this one network)"
