"""Score interventions: does the output's label agree with the wanted one, and what else has changed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from datasets.labels import Labels
from probes.blocks import Blocks
from probes.task import Task

SHIFTED, ORIGINAL = "shifted", "original"
DAMAGE, AREA_RATIO, SECONDS = "damage", "area_ratio", "seconds"
MARGIN = 3 / 64
"""Share of the picture by which masks are grown before what lies outside counts as background."""
_MASK_THRESHOLD = 0.5


def columns(task: Task) -> tuple[str, ...]:
    """The names of a trial's scores."""
    agreement = (f"{metric.name}_{against}" for against in (SHIFTED, ORIGINAL) for metric in task.metrics)
    return (*agreement, DAMAGE, AREA_RATIO, SECONDS)


@dataclass(frozen=True)
class Wanted:
    """What the trials of a batch are scored against, whatever the arm."""

    task: Task
    pictures: Float[Tensor, "n 3 h w"]
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
        side = self.pictures.shape[-1]
        return [Blocks(self.task.target(labels).double(), side) for labels in (self.shifted, self.original)]

    def scores(self, pictures: Float[Tensor, "n 3 h w"], labels: Labels, seconds: float) -> Float[Tensor, "n scores"]:
        """Every score of every trial, in the order of :func:`columns`; ``seconds`` are those of a whole batch."""
        prediction = self.task.target(labels).double().flatten(2)[None]
        threshold = torch.full((1,), _MASK_THRESHOLD, dtype=torch.float64)
        agreement = [
            metric.compute(prediction, blocks, threshold)[0] for blocks in self._blocks for metric in self.task.metrics
        ]
        change = (pictures - self.pictures).abs().mean(1).double()
        background = self.background.double()
        damage = (change * background).sum((-1, -2)) / background.sum((-1, -2))
        area = labels.saliency.double().mean((-1, -2)) / self.original.saliency.double().mean((-1, -2))
        each = torch.full_like(damage, seconds / len(damage))
        return torch.stack([*agreement, damage, area, each], dim=1)
