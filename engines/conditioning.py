"""What a denoiser reads besides latents and timestep: named tensors with one row per image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import torch
from torch import Tensor

WORDS = "words"
"""Stands for a length that differs between calls in the shapes of :data:`Inputs`."""
TEXT = "text"
"""Name of the embedded words of the prompt (n words width), which every denoiser reads."""
MASK = "mask"
"""Name of what tells words that the denoiser reads (1) from padding (0), where it has a mask."""

Inputs = Mapping[str, tuple[int | str, ...]]
"""Name of a conditioning tensor -> its shape without the batch axis; lengths may be ``WORDS``."""


class Conditioning:
    """Named tensors with the same number of rows; a slice selects rows, a name one tensor."""

    __slots__ = ("tensors",)

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.tensors.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(value.nbytes for value in self.tensors.values())

    @property
    def words(self) -> int:
        """Number of words in a row, with padding."""
        return int(self.tensors[TEXT].shape[1])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, with the batch axis."""
        return {name: tuple(value.shape) for name, value in self.tensors.items()}

    @overload
    def __getitem__(self, selected: str) -> Tensor: ...
    @overload
    def __getitem__(self, selected: slice | Tensor) -> Conditioning: ...
    def __getitem__(self, selected: str | slice | Tensor) -> Tensor | Conditioning:
        if isinstance(selected, str):
            return self.tensors[selected]
        return Conditioning({name: value[selected] for name, value in self.tensors.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Conditioning)
            and self.tensors.keys() == other.tensors.keys()
            and all(torch.equal(value, other.tensors[name]) for name, value in self.tensors.items())
        )

    __hash__ = None  # type: ignore[assignment]

    def expand(self, rows: int) -> Conditioning:
        """Repeat a single row, without copying it."""
        return Conditioning(
            {
                name: value.expand(rows, *[-1] * (value.ndim - 1))
                for name, value in self.tensors.items()
            }
        )

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Conditioning:
        """Move to a device; numbers with fractions also change to ``dtype``."""
        # A copy to the CPU must be over before it is read.
        late = device.type != "cpu"
        return Conditioning(
            {
                name: value.to(
                    device, dtype if value.is_floating_point() else None, non_blocking=late
                )
                for name, value in self.tensors.items()
            }
        )

    @staticmethod
    def joined(parts: Sequence[Conditioning]) -> Conditioning:
        """Concatenate the rows of several."""
        return Conditioning({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
