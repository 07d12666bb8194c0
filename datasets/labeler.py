"""What a labeler is: it reads pictures and says what is in them, and how raw inverse depth is standardised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from datasets.labels import DisparityScale, Labels


@runtime_checkable
class Reader(Protocol):
    """An opened labeler."""

    @property
    def scale(self) -> DisparityScale:
        """What its standardised disparity is in raw units, so that exact labels can be given in the same ones."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names what determines its answers, weights included."""
        ...

    def __call__(self, pictures: Float[Tensor, "n 3 h w"]) -> Labels:
        """Labels of pictures in 0..1, at the pictures' resolution."""
        ...


@dataclass(frozen=True, slots=True)
class Labeler:
    """A file or package of ``datasets/labelers`` is one: it names this as ``LABELER``."""

    open: Callable[[], Reader]
