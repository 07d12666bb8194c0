"""The scores of all trials of an experiment: means, paired differences and the best arm.

Trials are nested in images: the scores of an image's shifts are averaged before images are
resampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.stats import t
from torch import Tensor

from bench.interventions.arms import EDIT, NULL, Arm, strength_words
from bench.interventions.records import DAMAGE, SHIFTED, ArmRecord
from bench.interventions.reference import SECONDS, Reference, columns, metric_of
from bench.interventions.shifts import Offset
from datasets.atomic_write import write_csv
from datasets.items import Item, Split
from probes.bootstrap import Array, Score, effect_of, score_of
from probes.multiple_testing import over_permuted
from probes.probe_set import PERMUTED
from probes.reaches import margin_of
from probes.task import Task

NO_EDIT = Arm(NULL, NULL, 0.0, (), ())


def smallest_visible(effect: Array) -> float:
    """The smallest mean effect that these items show with 80 % power at a level of 5 %.

    It is m t(0.975) + t(0.8) standard errors of the mean (Cohen 1988, Statistical Power Analysis
    for the Behavioral Sciences, 2.4), with the quantiles of Student's t and the margin m that the
    test of few images adds (:func:`probes.reaches.margin_of`). That test asks more still of fewer
    than 60 images: of 20, the power is 72 %. nan for fewer than two images.
    """
    finite = effect[np.isfinite(effect)]
    n = len(finite)
    if n < 2:
        return float("nan")
    error = finite.std(ddof=1) / np.sqrt(n)
    return float(error * (margin_of(n) * t.ppf(0.975, n - 1) + t.ppf(0.8, n - 1)))


def _mean_defined(values: Float[Array, "n k"]) -> Float[Array, " n"]:
    """Average each row over its defined values; nan where there is none."""
    finite = np.isfinite(values)
    count = finite.sum(1)
    total = np.where(finite, values, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass
class Trials:
    """The scores of all arms, added batch after batch."""

    task: Task
    split: Split
    items: Sequence[Item]
    offsets: Sequence[Sequence[Offset]]
    """Per item, one per shift."""
    draws: Sequence[int] = ()
    """The permutations of the labels whose probes are a control, taken in turn by an item's
    shifts."""
    shown: dict[Arm, dict[str, Tensor]] = field(default_factory=dict)
    """Per arm, image and label of the first shift of the first batch's items."""

    def __post_init__(self) -> None:
        self._parts: dict[Arm, list[Array]] = {}
        self.columns = columns(self.task)

    def add(self, arm: Arm, tensors: Mapping[str, Tensor]) -> None:
        """Add the next batch of an arm."""
        self._parts.setdefault(arm, []).append(tensors["scores"].numpy())
        if "image" in tensors:
            self.shown[arm] = {name: tensors[name] for name in ("image", "label")}

    def add_null(self, reference: Reference) -> None:
        """Add the next batch of unedited images."""
        self.add(NO_EDIT, {"scores": reference.scores(reference.images, reference.original, 0.0)})

    @property
    def arms(self) -> list[Arm]:
        """Every arm, the unedited images first."""
        return list(self._parts)

    def scores(self, arm: Arm) -> Array:
        """Return the scores, items x shifts x columns."""
        table = np.concatenate(self._parts[arm])
        return table.reshape(len(self.items), -1, len(self.columns))

    def per_item(self, arm: Arm, column: str) -> Array:
        """Average a score over shifts, per item; nan where it is undefined for every shift."""
        return _mean_defined(self.scores(arm)[..., self.columns.index(column)])

    @property
    def headline(self) -> str:
        """The score by which arms are compared: agreement with the target label."""
        return f"{metric_of(self.task).name}_{SHIFTED}"

    def quality(self, arm: Arm) -> Array:
        """Return the headline score per item, with a sign that makes higher better."""
        return metric_of(self.task).sign * self.per_item(arm, self.headline)

    def gain(self, arm: Arm, baseline: Arm) -> Score:
        """Compare two arms by their headline score, paired over items; above zero, ``arm`` wins.

        The interval over probes of permuted labels includes the variation between permutations.
        """
        if baseline.control == PERMUTED and self.permutations > 1:
            by_draw = self._by_draw(arm, baseline)
            gain = over_permuted(np.zeros((1, len(by_draw))), -by_draw.T[None])
            return Score(*(float(part[0]) for part in (gain.mean, gain.low, gain.high)))
        return effect_of(self.quality(arm) - self.quality(baseline))

    def gains_by_permutation(self, arm: Arm) -> tuple[float, ...]:
        """Return an edit's mean gain over each permutation of the labels, if there are several."""
        control = self.controls(arm).get(PERMUTED)
        if control is None or self.permutations < 2:
            return ()
        return tuple(_mean_defined(self._by_draw(arm, control).T).tolist())

    def visible(self, arm: Arm, baseline: Arm) -> float:
        """The smallest gain over a baseline that these items show; see :func:`smallest_visible`."""
        least = smallest_visible(self.quality(arm) - self.quality(baseline))
        if baseline.control == PERMUTED and self.permutations > 1:
            means = _mean_defined(self._by_draw(arm, baseline).T)
            error = means.std(ddof=1) * np.sqrt(1 + 1 / len(means))
            least = max(least, float(error * t.ppf([0.975, 0.8], len(means) - 1).sum()))
        return least

    @property
    def permutations(self) -> int:
        """How many permutations of the labels the shifts take."""
        return min(len(self.draws), *(len(shifts) for shifts in self.offsets))

    def _by_draw(self, arm: Arm, baseline: Arm) -> Array:
        """Differences of the headline score, items x permutations, each at the same shifts."""
        at, sign = self.columns.index(self.headline), metric_of(self.task).sign
        gap = sign * (self.scores(arm) - self.scores(baseline))[..., at]
        number = np.arange(gap.shape[1]) % len(self.draws)
        return np.stack(
            [_mean_defined(gap[:, number == draw]) for draw in range(self.permutations)], axis=1
        )

    def best(self, most_damage: float, *methods: str) -> Arm:
        """Return the edit with the best mean headline score, of some methods or of all.

        One whose mean damage is above the limit loses to one below it. An edit whose score is
        undefined for more items than another's loses to it: it may have destroyed the images.
        """

        def rank(arm: Arm) -> tuple[bool, int, float]:
            quality = self.quality(arm)
            defined = quality[np.isfinite(quality)]
            mild = bool(self.mean_damage(arm) <= most_damage)
            return mild, len(defined), float(defined.mean()) if len(defined) else -np.inf

        edits = (
            arm
            for arm in self.arms
            if arm.control == EDIT and (not methods or arm.method in methods)
        )
        return max(edits, key=rank)

    def controls(self, edit: Arm) -> dict[str, Arm]:
        """Return the controls of an edit by name, the unedited images first."""
        return {NULL: NO_EDIT} | {
            arm.control: arm
            for arm in self.arms
            if arm.control != EDIT and (arm.method, arm.strength) == (edit.method, edit.strength)
        }

    def records(self) -> tuple[ArmRecord, ...]:
        """Summarise every arm."""
        return tuple(
            ArmRecord(
                method=arm.method,
                control=arm.control,
                strength=arm.strength,
                layers=arm.layers,
                steps=arm.step_numbers,
                scores={name: astuple(score_of(self.per_item(arm, name))) for name in self.columns},
                gains={
                    name: astuple(self.gain(arm, baseline))
                    for name, baseline in self.controls(arm).items()
                }
                if arm.control == EDIT
                else None,
                visible={
                    name: self.visible(arm, baseline)
                    for name, baseline in self.controls(arm).items()
                }
                if arm.control == EDIT
                else None,
                gains_by_permutation=self.gains_by_permutation(arm) if arm.control == EDIT else (),
            )
            for arm in self.arms
        )

    def mean_damage(self, arm: Arm) -> float:
        """Return the mean damage over items; nan where no image has a background."""
        damage = self.per_item(arm, DAMAGE)
        defined = damage[np.isfinite(damage)]
        return float(defined.mean()) if len(defined) else float("nan")

    def seconds(self, method: str | None = None) -> float:
        """Return the mean seconds per trial, of a method's edits or of all arms with edits."""
        at = self.columns.index(SECONDS)
        arms = [
            arm
            for arm in self.arms
            if (arm != NO_EDIT if method is None else (arm.method, arm.control) == (method, EDIT))
        ]
        return float(np.mean([self.scores(arm)[..., at].mean() for arm in arms]))

    def write_csv(self, path: Path) -> None:
        """Write one row per trial."""
        rows = list(self._csv_rows())
        write_csv(path, list(rows[0]), rows)

    def _csv_rows(self) -> Iterator[dict[str, object]]:
        for arm in self.arms:
            for item, offsets, table in zip(
                self.items, self.offsets, self.scores(arm), strict=True
            ):
                for index, (offset, scores) in enumerate(zip(offsets, table, strict=True)):
                    yield {
                        "split": self.split,
                        "item": item.id,
                        "shift": index + 1,
                        "down": offset[0],
                        "right": offset[1],
                        "method": arm.method,
                        "control": arm.control,
                        "strength": strength_words(arm.strength),
                        "layers": " ".join(arm.layers),
                        "steps": " ".join(map(str, arm.step_numbers)),
                    } | {
                        name: f"{score:.6g}"
                        for name, score in zip(self.columns, scores, strict=True)
                    }
