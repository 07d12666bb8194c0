"""The checkpoint of a training: one file, which belongs to one schedule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from engines.errors import EngineError


class Checkpoint:
    """The state of a training in a file.

    ``schedule`` holds what determines the training, such as its number of steps. Weights of another
    schedule cannot be trained on: their learning rate may have fallen already.
    """

    def __init__(self, path: Path, schedule: Mapping[str, str | int | float]) -> None:
        self.path = path
        self.schedule = dict(schedule)

    def load(self, device: str = "cpu") -> dict[str, Any] | None:
        """The stored state; None if there is no file.

        Raises EngineError if the file belongs to another schedule.
        """
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location=device)
        stored = state.get("schedule", {})
        others = [
            f"{name} {stored.get(name, 'not stated')} instead of {value}"
            for name, value in self.schedule.items()
            if stored.get(name) != value
        ]
        if others:
            raise EngineError(
                f"{self.path} holds another training ({', '.join(others)}); "
                "give another --work, or delete the file to train from the start"
            )
        return state

    def save(self, **state: object) -> None:
        """Replace the file by ``state`` and the schedule, at once."""
        partial = self.path.with_suffix(".partial")
        torch.save({**state, "schedule": self.schedule}, partial)
        partial.replace(self.path)
