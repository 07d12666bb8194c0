"""The scores of all trials of an experiment, and what they say: means, paired differences and the chosen arm.

Trials are nested in images: the shifts of an image are averaged first, and images are drawn again.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bench.interventions.arms import EDIT, NULL, Arm
from bench.interventions.shifts import Offset
from datasets.items import Item, Split
from datasets.labels import Labels
from probes.blocks import Blocks
from probes.bootstrap import Score, score_of
from probes.task import Task

SHIFTED, ORIGINAL = "shifted", "original"

DAMAGE, AREA_RATIO, SECONDS = "damage", "area_ratio", "seconds"

MARGIN = 3 / 64
"""Share of the image by which masks are grown before what lies outside counts as background."""

_MASK_THRESHOLD = 0.5


def columns(task: Task) -> tuple[str, ...]:
    """The names of a trial's scores."""
    agreement = (
        f"{metric.name}_{against}" for against in (SHIFTED, ORIGINAL) for metric in task.metrics
    )
    return (*agreement, DAMAGE, AREA_RATIO, SECONDS)


@dataclass(frozen=True)
class Wanted:
    """What the trials of a batch are scored against, whatever the arm."""

    task: Task
    images: Float[Tensor, "n 3 h w"]
    """Unedited."""
    original: Labels
    shifted: Labels

    @cached_property
    def target(self) -> Float[Tensor, "n k h w"]:
        """The map that the probes should read."""
        return self.task.target(self.shifted).double()

    @cached_property
    def background(self) -> Bool[Tensor, "n h w"]:
        """Well outside the object, both where it was and where it is wanted."""
        masks = (self.original.saliency | self.shifted.saliency).float()
        margin = round(MARGIN * masks.shape[-1])
        return functional.max_pool2d(masks[:, None], 2 * margin + 1, 1, margin)[:, 0] == 0

    @cached_property
    def _blocks(self) -> Sequence[Blocks]:
        side = self.images.shape[-1]
        return [
            Blocks(self.task.target(labels).double(), side)
            for labels in (self.shifted, self.original)
        ]

    def scores(
        self, images: Float[Tensor, "n 3 h w"], labels: Labels, seconds: float
    ) -> Float[Tensor, "n scores"]:
        """Every score of every trial, in the order of :func:`columns`; ``seconds`` are those of a whole batch."""
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
        area = labels.saliency.double().mean((-1, -2)) / self.original.saliency.double().mean(
            (-1, -2)
        )
        each = torch.full_like(damage, seconds / len(damage))
        return torch.stack([*agreement, damage, area, each], dim=1)


Array = NDArray[np.float64]
NO_EDIT = Arm(NULL, NULL, 0.0, (), ())
_TRIAL_COLUMNS = (
    "split",
    "item",
    "shift",
    "down",
    "right",
    "method",
    "control",
    "strength",
    "layers",
    "steps",
)


@dataclass
class Trials:
    """Scores as they come, batch after batch."""

    task: Task
    split: Split
    items: Sequence[Item]
    offsets: Sequence[Sequence[Offset]]
    shown: dict[Arm, dict[str, Tensor]] = field(default_factory=dict)
    """Per arm, image and label of the first shift of the first batch's items."""

    def __post_init__(self) -> None:
        self._parts: dict[Arm, list[Array]] = {}
        self.columns = columns(self.task)

    def add(self, arm: Arm, tensors: Mapping[str, Tensor]) -> None:
        """Take the next batch of an arm."""
        self._parts.setdefault(arm, []).append(tensors["scores"].numpy())
        if "image" in tensors:
            self.shown[arm] = {name: tensors[name] for name in ("image", "label")}

    def add_null(self, wanted: Wanted) -> None:
        """Take the next batch of images that nobody has edited."""
        self.add(NO_EDIT, {"scores": wanted.scores(wanted.images, wanted.original, 0.0)})

    @property
    def arms(self) -> list[Arm]:
        """Every arm, the null first."""
        return list(self._parts)

    def scores(self, arm: Arm) -> Array:
        """items x shifts x columns."""
        table = np.concatenate(self._parts[arm])
        return table.reshape(len(self.items), -1, len(self.columns))

    def per_item(self, arm: Arm, column: str) -> Array:
        """The mean over shifts of a score, per item; nan where it is undefined for every shift."""
        values = self.scores(arm)[..., self.columns.index(column)]
        known = np.isfinite(values)
        count = known.sum(1)
        return np.where(
            count > 0, np.where(known, values, 0.0).sum(1) / np.maximum(count, 1), np.nan
        )

    @property
    def headline(self) -> str:
        """The score by which arms are compared: agreement with the wanted label."""
        return f"{self.task.metrics[0].name}_{SHIFTED}"

    def gain(self, arm: Arm, baseline: Arm) -> Score:
        """Paired difference of the headline score over items; above zero the first arm is better."""
        sign = self.task.metrics[0].sign
        return score_of(
            sign * (self.per_item(arm, self.headline) - self.per_item(baseline, self.headline))
        )

    def best(self, method: str | None = None) -> Arm:
        """The edit with the best mean headline score, of a method or of all."""
        sign = self.task.metrics[0].sign
        return max(
            (arm for arm in self.arms if arm.control == EDIT and method in (None, arm.method)),
            key=lambda arm: sign * float(np.nanmean(self.per_item(arm, self.headline))),
        )

    def controls(self, arm: Arm) -> dict[str, Arm]:
        """The controls of an edit, by name, the null first."""
        same = [
            baseline
            for baseline in self.arms
            if (baseline.method, baseline.strength) == (arm.method, arm.strength)
        ]
        return {NULL: NO_EDIT} | {
            baseline.control: baseline for baseline in same if baseline.control != EDIT
        }

    def summary(self) -> list[dict[str, Any]]:
        """Per arm, every score as mean and interval, and an edit's gains over the controls that it has."""
        rows = []
        for arm in self.arms:
            row: dict[str, Any] = {
                "method": arm.method,
                "control": arm.control,
                "strength": arm.strength,
                "layers": list(arm.layers),
                "steps": [step + 1 for step in arm.steps],
                "scores": {
                    name: _triple(score_of(self.per_item(arm, name))) for name in self.columns
                },
            }
            if arm.control == EDIT:
                row["gains"] = {
                    name: _triple(self.gain(arm, baseline))
                    for name, baseline in self.controls(arm).items()
                }
            rows.append(row)
        return rows

    def seconds(self) -> float:
        """Seconds per trial, over all edited arms."""
        at = self.columns.index(SECONDS)
        return float(
            np.mean([self.scores(arm)[..., at].mean() for arm in self.arms if arm != NO_EDIT])
        )

    def write_csv(self, path: Path) -> None:
        """One row per trial."""
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([*_TRIAL_COLUMNS, *self.columns])
            for arm in self.arms:
                table = self.scores(arm)
                site = [" ".join(arm.layers), " ".join(str(step + 1) for step in arm.steps)]
                for item, moves, rows in zip(self.items, self.offsets, table, strict=True):
                    for shift, (move, row) in enumerate(zip(moves, rows, strict=True)):
                        writer.writerow(
                            [
                                self.split,
                                item.id,
                                shift + 1,
                                *move,
                                arm.method,
                                arm.control,
                                f"{arm.strength:g}",
                            ]
                            + site
                            + [f"{value:.6g}" for value in row]
                        )


def _triple(score: Score) -> list[float]:
    return [score.mean, score.low, score.high]
