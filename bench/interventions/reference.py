"""The scores of a batch of trials, against the image's own label and the one that edits aim at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from bench.interventions.records import AREA_RATIO, DAMAGE, ORIGINAL, SHIFTED
from datasets.grid import Grid
from datasets.labels import Labels
from probes.blocks import Blocks
from probes.score import RMSE_ALIGNED, Metric
from probes.task import Task

SECONDS = "seconds"
MARGIN = 3 / 64
"""Masks are dilated by this share of the image's shorter side; the background lies outside."""
_MASK_THRESHOLD = 0.5


def metric_of(task: Task) -> Metric:
    """The metric by which edits of a task are compared: its main one, or the aligned RMSE.

    A labeler only guesses the scale of a scene, and guesses another one for an edited image: that
    error is one number per image and would hide what the edit did to the map.
    """
    return RMSE_ALIGNED if RMSE_ALIGNED in task.metrics else task.metrics[0]


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
