"""What a labeler is: it reads images and says what is in them, and how raw inverse depth is standardised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Labels of images in 0..1, at the images' resolution."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Which networks a labeler that leaves the choice is made of."""

    depth_model: str | None = None
    """A transformers folder or hub id; None takes the labeler's own."""
    depth_scale: DisparityScale | None = None
    """Of the raw inverse depth of that model; None where the labeler knows it."""
    saliency_model: Path | None = None
    """An ONNX file."""
    saliency_size: int = 512
    """Height and width of what the saliency network is given."""
    cache: Path | None = None
    """Where labels that take long are kept between runs; None keeps none."""


AS_SHIPPED = Sources()


@runtime_checkable
class Open(Protocol):
    """Opens a labeler."""

    def __call__(self, sources: Sources = AS_SHIPPED, /) -> Reader:
        """Load the networks. Raises DatasetError when one is missing or damaged."""
        ...


@dataclass(frozen=True, slots=True)
class Labeler:
    """A file or package of ``datasets/labelers`` is one: it names this as ``LABELER``."""

    open: Open
    takes_networks: bool = False
    """Whether :class:`Sources` may name its networks."""
