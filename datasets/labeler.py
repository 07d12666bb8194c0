"""The labeler interface: images in, labels and the scale of inverse depth out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from datasets.preparation import TRACER, Preparation

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from datasets.labels import DisparityScale, Labels


@runtime_checkable
class Reader(Protocol):
    """An opened labeler."""

    @property
    def scale(self) -> DisparityScale:
        """Mean and deviation of raw inverse depth, to standardise exact labels alike."""
        ...

    @property
    def fingerprint(self) -> str:
        """A name for everything that determines its labels, weights included."""
        ...

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Label images in 0..1, at the images' resolution."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Networks of a labeler that leaves the choice to the user."""

    depth_model: str | None = None
    """A transformers folder or hub id; None is the labeler's default."""
    depth_scale: DisparityScale | None = None
    """Scale of that model's raw inverse depth; None for the labeler's default model."""
    saliency_model: Path | None = None
    """An ONNX file."""
    saliency_size: int | None = None
    """Height and width of the saliency network's input; None is the file's or the preparation's."""
    cache: Path | None = None
    """Folder to cache slow labels in; None caches none."""
    saliency_preparation: Preparation = TRACER
    """What the saliency network expects of an image, and what its map means."""


AS_SHIPPED = Sources()


@runtime_checkable
class Open(Protocol):
    """Opens a labeler."""

    def __call__(self, sources: Sources = AS_SHIPPED, /) -> Reader:
        """Load the networks. Raises DatasetError if one is missing or damaged."""
        ...


@dataclass(frozen=True, slots=True)
class Labeler:
    """Each file or package of ``datasets/labelers`` defines one as ``LABELER``."""

    open: Open
    """Opens it; the labels that it gives are checked."""
    takes_networks: bool = False
    """Whether :class:`Sources` can set its networks."""

    def __post_init__(self) -> None:
        """Have every reader checked, whoever opens it."""
        object.__setattr__(self, "open", _OpenChecked(self.open))


@dataclass(frozen=True, slots=True)
class _OpenChecked:
    opened: Open

    def __call__(self, sources: Sources = AS_SHIPPED, /) -> Reader:
        # A labeler is named like its module in datasets/labelers.
        *_, name = str(getattr(self.opened, "__module__", "")).split("labelers.")
        return CheckedReader(self.opened(sources), name.partition(".")[0])


@dataclass(frozen=True, slots=True)
class WrappedReader:
    """A labeler within another that changes no label: it has the inner one's scale and name."""

    reader: Reader

    @property
    def scale(self) -> DisparityScale:
        """The labeler's scale."""
        return self.reader.scale

    @property
    def fingerprint(self) -> str:
        """The labeler's fingerprint."""
        return self.reader.fingerprint


@dataclass(frozen=True, slots=True)
class CheckedReader(WrappedReader):
    """A labeler whose labels are checked."""

    name: str

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Label images. Raises DatasetError for labels that are not finite or of a wrong shape."""
        from datasets.label_check import checked

        return checked(self.reader(images), images, self.name)
