"""Tasks: what a probe predicts, and how predictions are scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from datasets.labels import Labels
from probes.score import Metric


@dataclass(frozen=True, slots=True)
class Task:
    """A task; every file of ``probes/tasks`` defines one as ``TASK``."""

    target: Callable[[Labels], Float[Tensor, "n k h w"]]
    """The map to predict, with k channels per pixel; h = w = 1 for a task of whole images."""
    metrics: tuple[Metric, ...]
    """The first is the main metric."""
    unit: str = ""
    """Unit of the target and of its errors."""
    thresholded: bool = False
    """Whether predictions become masks at a threshold chosen on training images."""
    per_image: bool = False
    """Whether probes predict one vector per image from the mean activation over its tokens."""
    classes: tuple[str, ...] = ()
    """Names of the classes, if the target's channels are their indicators."""
    last_edited_step: int = 5
    """The last step, counted from 1, with edits in the published interventions."""
    edits_all_layers: bool = False
    """Whether edits change all layers (as published for depth) or those of the decoder only."""


def indicators(classes: Int[Tensor, " n"], count: int) -> Float[Tensor, "n {count} 1 1"]:
    """The target of a task of whole images with ``count`` classes."""
    return one_hot(classes, count).double()[:, :, None, None]
