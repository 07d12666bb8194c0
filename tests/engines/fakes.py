"""Stand-ins for parts of a GPU and of TensorRT, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch

HANDLE = 99


class DataType(Enum):
    """TensorRT's types, with values that no version uses: code may rely on names only."""

    HALF = 70
    FLOAT = 71
    BF16 = 72


class FakeStream:
    """A stream of a card that computes at once, on the CPU."""

    def __init__(
        self, card: str = "Card 9 (compute capability 8.9)", free_bytes: int = 2**30
    ) -> None:
        self.device = torch.device("cpu")
        self.handle = HANDLE
        self.name = card
        self.free = free_bytes
        self.runs = 0
        self.captures = 0

    def free_bytes(self) -> int:
        return self.free

    def card(self) -> str:
        return self.name

    def run(self, work: Callable[[], None]) -> None:
        self.runs += 1
        work()

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        work()
        return work
