"""The scores of all trials of an experiment: means, paired differences and the best arm.

Trials are nested in images: the scores of an image's shifts are averaged before images are
resampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import t
from torch import Tensor
from torch.nn import functional

from bench.interventions.arms import EDIT, NULL, Arm, strength_words
from bench.interventions.records import AREA_RATIO, DAMAGE, ORIGINAL, SHIFTED, ArmRecord
from bench.interventions.shifts import Offset
from datasets.atomic_write import write_csv
from datasets.grid import Grid
from datasets.items import Item, Split
from datasets.labels import Labels
from probes.blocks import Blocks
from probes.bootstrap import Array, Score, effect_of, margin_of, score_of
from probes.score import RMSE_ALIGNED, Metric
from probes.task import Task

SECONDS = "seconds"
MARGIN = 3 / 64
"""Masks are dilated by this share of the image's shorter side; the background lies outside."""
NO_EDIT = Arm(NULL, NULL, 0.0, (), ())
_MASK_THRESHOLD = 0.5


def metric_of(task: Task) -> Metric:
    """The metric by which edits of a task are compared: its main one, or the aligned RMSE.

    A labeler only guesses the scale of a scene, and guesses another one for an edited image: that
    error is one number per image and would hide what the edit did to the map.
    """
    return RMSE_ALIGNED if RMSE_ALIGNED in task.metrics else task.metrics[0]


def smallest_visible(effect: Array) -> float:
    """The smallest mean effect that these items show with 80 % power at a level of 5 %.

    It is m t(0.975) + t(0.8) standard errors of the mean (Cohen 1988, Statistical Power Analysis
    for the Behavioral Sciences, 2.4), with the quantiles of Student's t and the margin m that the
    test of few images adds (:func:`probes.bootstrap.margin_of`). That test asks more still of fewer
    than 60 images: of 20, the power is 72 %. nan for fewer than two images.
    """
    finite = effect[np.isfinite(effect)]
    n = len(finite)
    if n < 2:
        return float("nan")
    error = finite.std(ddof=1) / np.sqrt(n)
    return float(error * (margin_of(n) * t.ppf(0.975, n - 1) + t.ppf(0.8, n - 1)))


def columns(task: Task) -> tuple[str, ...]:
    """Return the names of a trial's scores."""
    agreement = (
        f"{metric.name}_{against}" for against in (SHIFTED, ORIGINAL) for metric in task.metrics
    )
    return (*agreement, DAMAGE, AREA_RATIO, SECONDS)


@dataclass(frozen=True)
class Reference:
    """The images and labels that the trials of a batch are scored against, one row per trial."""

    task: Task
    images: Float[Tensor, "n 3 h w"]
    """Unedited."""
    original: Labels
    shifted: Labels

    @cached_property
    def target(self) -> Float[Tensor, "n k h w"]:
        """The map that edits aim at."""
        return self.task.target(self.shifted).double()

    @property
    def original_map(self) -> Float[Tensor, "n k h w"]:
        """The same of the unedited image."""
        return self.task.target(self.original).double()

    @cached_property
    def background(self) -> Bool[Tensor, "n h w"]:
        """True well outside the object's original and shifted places."""
        masks = (self.original.saliency | self.shifted.saliency).float()
        margin = round(MARGIN * min(masks.shape[-2:]))
        return functional.max_pool2d(masks[:, None], 2 * margin + 1, 1, margin)[:, 0] == 0

    @cached_property
    def _blocks(self) -> Sequence[Blocks]:
        pixels = Grid(*self.images.shape[-2:])
        return [
            Blocks(self.task.target(labels).double(), pixels)
            for labels in (self.shifted, self.original)
        ]

    def scores(
        self, images: Float[Tensor, "n 3 h w"], labels: Labels, seconds: float
    ) -> Float[Tensor, "n scores"]:
        """Score every trial, in the order of :func:`columns`; ``seconds`` is the batch's time."""
        prediction = self.task.target(labels).double().flatten(2)[None]
        threshold = torch.full((1,), _MASK_THRESHOLD, dtype=torch.float64)
        agreement = [
            metric.compute(prediction, blocks, threshold)[0]
            for blocks in self._blocks
            for metric in self.task.metrics
        ]
        change = (images - self.images).abs().mean(1).double()
        background = self.background.double()
        damage = (change * background).sum((-1, -2)) / background.sum((-1, -2))
        area, original_area = (
            part.saliency.double().mean((-1, -2)) for part in (labels, self.original)
        )
        each = torch.full_like(damage, seconds / len(damage))
        return torch.stack([*agreement, damage, area / original_area, each], dim=1)


@dataclass
class Trials:
    """The scores of all arms, added batch after batch."""

    task: Task
    split: Split
    items: Sequence[Item]
    offsets: Sequence[Sequence[Offset]]
    """Per item, one per shift."""
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
        values = self.scores(arm)[..., self.columns.index(column)]
        finite = np.isfinite(values)
        count = finite.sum(1)
        return np.where(
            count > 0, np.where(finite, values, 0.0).sum(1) / np.maximum(count, 1), np.nan
        )

    @property
    def headline(self) -> str:
        """The score by which arms are compared: agreement with the target label."""
        return f"{metric_of(self.task).name}_{SHIFTED}"

    def quality(self, arm: Arm) -> Array:
        """Return the headline score per item, with a sign that makes higher better."""
        return metric_of(self.task).sign * self.per_item(arm, self.headline)

    def gain(self, arm: Arm, baseline: Arm) -> Score:
        """Compare two arms by their headline score, paired over items; above zero, ``arm`` wins."""
        return effect_of(self.quality(arm) - self.quality(baseline))

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
                    name: smallest_visible(self.quality(arm) - self.quality(baseline))
                    for name, baseline in self.controls(arm).items()
                }
                if arm.control == EDIT
                else None,
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
