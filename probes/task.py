"""What a task is: what a probe is asked to predict, and how the answer is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from datasets.labels import Labels
from probes.score import Metric


@dataclass(frozen=True, slots=True)
class Task:
    """A file of ``probes/tasks`` is one: it names this as ``TASK``, and its first docstring line says what it asks."""

    target: Callable[[Labels], Float[Tensor, "n k h w"]]
    """The map to predict, k channels per pixel."""
    metrics: tuple[Metric, ...]
    """The first one is the headline."""
    unit: str = ""
    """Of the target and of errors in it."""
    thresholded: bool = False
    """Whether the answer is a mask, cut from the prediction at a threshold chosen on training pictures."""
