"""What a task is: what a probe is asked to predict, and how the answer is scored."""

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
    """A file of ``probes/tasks`` is one: it names this as ``TASK``, and its first docstring line says what it asks."""

    target: Callable[[Labels], Float[Tensor, "n k h w"]]
    """The map to predict, k channels per pixel; of a task of whole images, one vector each (h = w = 1)."""
    metrics: tuple[Metric, ...]
    """The first one is the headline."""
    unit: str = ""
    """Of the target and of errors in it."""
    thresholded: bool = False
    """Whether the answer is a mask, cut from the prediction at a threshold chosen on training images."""
    per_image: bool = False
    """Whether the probe reads the mean over an image's tokens and predicts one vector for the whole image."""
    classes: tuple[str, ...] = ()
    """Names of the target's channels where they are the indicators of classes."""
    last_edited_step: int = 5
    """Counted from 1: the last step that edits of the paper change."""
    edits_all_layers: bool = False
    """Whether edits go into all layers, as the paper's do for depth; the others' go into those of the decoder."""


def indicators(classes: Int[Tensor, " n"], count: int) -> Float[Tensor, "n {count} 1 1"]:
    """The target of a task of whole images that tells ``count`` classes apart."""
    return one_hot(classes, count).double()[:, :, None, None]
