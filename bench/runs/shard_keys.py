"""The names of a run's stages and of their shards, and the keys of the tensors in a shard."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from torch import Tensor

COSTS = "costs"
"""Key of a shard of generated images: the clock readings of its engine calls."""
MADE = "made"
"""Key of every shard: its process, its seconds, and the process's peak of resident bytes."""


class Stage(StrEnum):
    """A stage of a run, as messages name it."""

    TRAINING = "the training images"
    DRAFT = "the draft probes"
    LAST_FOLD = "the last fold"
    FINAL = "the final probes"
    TEST = "the test images"

    def shard(self, number: int) -> str:
        """Return the name of a shard of probes."""
        return f"{self.name.lower()}-{number:04d}"


class Section(StrEnum):
    """A group of tensors in a shard, whose keys begin with its name."""

    SCORES = "scores"
    SWEEP = "sweep"
    STRIP = "strip"

    def holds(self, key: str) -> bool:
        """Whether a tensor belongs to the section."""
        return key.startswith(f"{self}/")

    def put(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors by their keys in a shard."""
        return {f"{self}/{name}": tensor for name, tensor in tensors.items()}

    def take(self, shard: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the section's tensors by their own names."""
        start = len(self) + 1
        return {key[start:]: tensor for key, tensor in shard.items() if self.holds(key)}
